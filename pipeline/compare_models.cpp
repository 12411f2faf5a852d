#include "pipeline/compare_models.h"

#include <cstring>
#include <map>
#include <utility>

#include "engine/formats/weight_files.h"

namespace quire {
namespace {

constexpr const char* kHead = "lm_head.weight";
constexpr const char* kTable = "wte.weight";

using ByName = std::map<std::string, const FileTensor*>;

ByName by_name(const TensorSource& source) {
  ByName tensors;
  for (const FileTensor& tensor : source.tensors()) {
    const std::string bare = bare_name(tensor.name);
    if (!is_old_buffer(bare)) tensors.emplace(bare, &tensor);
  }
  return tensors;
}

/// Of that name; of a tied table and head the one that is there.
const FileTensor* find(const ByName& tensors, const std::string& name) {
  auto entry = tensors.find(name);
  if (entry == tensors.end() && name == kHead) entry = tensors.find(kTable);
  if (entry == tensors.end() && name == kTable) entry = tensors.find(kHead);
  return entry == tensors.end() ? nullptr : entry->second;
}

std::string described(const FileTensor& tensor) {
  return tensor.dtype_name() + " " + to_string(tensor.shape);
}

bool same_bytes(const FileTensor& a, const FileTensor& b) {
  return a.type == b.type && !a.transposed && !b.transposed &&
         std::memcmp(a.bytes.data(), b.bytes.data(), a.bytes.size()) == 0;
}

/// A tensor of both; where it has no values, only bytes tell that both are equal.
void add(const std::string& name, const FileTensor& a, const FileTensor& b, Comparison& to) {
  const bool have_values = has_values(a) && has_values(b);
  if (a.shape == b.shape && (have_values || same_bytes(a, b))) {
    to.pairs.push_back({name, &a, &b, {}});
  } else {
    to.unlike.push_back({name, described(a), described(b)});
  }
}

}  // namespace

const Comparison::Pair* Comparison::worst() const {
  const Pair* worst = nullptr;
  for (const Pair& pair : pairs) {
    if (pair.difference.largest > (worst == nullptr ? 0 : worst->difference.largest)) worst = &pair;
  }
  return worst;
}

bool Comparison::is_within(double tolerance) const {
  const Pair* const most = worst();
  return only_in_a.empty() && only_in_b.empty() && unlike.empty() &&
         (most == nullptr || most->difference.largest <= tolerance);
}

Comparison compare_models(const TensorSource& a, const TensorSource& b,
                          const ReadingOptions& options) {
  const ByName in_a = by_name(a), in_b = by_name(b);
  Comparison comparison;
  for (const FileTensor& tensor : a.tensors()) {
    const std::string name = bare_name(tensor.name);
    const auto own = in_a.find(name);
    if (own == in_a.end() || own->second != &tensor) continue;
    if (const FileTensor* other = find(in_b, name)) {
      add(name, tensor, *other, comparison);
    } else {
      comparison.only_in_a.push_back(name);
    }
  }
  for (const FileTensor& tensor : b.tensors()) {
    const std::string name = bare_name(tensor.name);
    const auto own = in_b.find(name);
    if (own == in_b.end() || own->second != &tensor || in_a.contains(name)) continue;
    if (const FileTensor* other = find(in_a, name)) {
      add(name, *other, tensor, comparison);
    } else {
      comparison.only_in_b.push_back(name);
    }
  }
  std::vector<std::pair<const FileTensor*, const FileTensor*>> read;
  std::vector<Comparison::Pair*> of;
  for (Comparison::Pair& pair : comparison.pairs) {
    if (!has_values(*pair.a) || !has_values(*pair.b)) continue;
    read.emplace_back(pair.a, pair.b);
    of.push_back(&pair);
  }
  const std::vector<TensorDifference> differences = differences_of(read, options);
  for (std::size_t i = 0; i < of.size(); ++i) of[i]->difference = differences[i];
  return comparison;
}

}  // namespace quire
