// The archive: for each file a local header, its name, padding in an extra field, and the data; then
// the central directory, which has all headers again, with places; then its end. Numbers that do
// not fit into 32 bits are all ones, and stand in an extra field (ZIP64).
#include "engine/formats/torch_writer.h"

#include <fmt/format.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <string_view>
#include <type_traits>

#include "base/error.h"

namespace quire {
namespace {

constexpr std::size_t kAlignment = 64;  // of data, as torch.save() has it
constexpr std::uint64_t kIn64 = 0xffffffff;
constexpr std::size_t kLocalSize = 30, kSumInLocal = 14;
constexpr std::uint16_t k16 = 0;  // fields that say nothing
constexpr std::uint32_t k32 = 0;

/// Appends numbers, little-endian, and texts.
template <class... T>
void put(std::string& to, const T&... values) {
  const auto put_one = [&](const auto& value) {
    if constexpr (std::is_arithmetic_v<std::remove_cvref_t<decltype(value)>>) {
      std::array<char, sizeof value> bytes{};
      std::memcpy(bytes.data(), &value, sizeof value);
      to.append(bytes.data(), bytes.size());
    } else {
      to += value;
    }
  };
  (put_one(values), ...);
}

std::uint32_t narrowed(std::uint64_t number) {
  return static_cast<std::uint32_t>(std::min(number, kIn64));
}
std::uint16_t size16(const std::string& text) {
  return static_cast<std::uint16_t>(text.size());
}

struct ZipEntry {
  std::string name;
  std::uint64_t size, offset;
  std::uint32_t sum = 0;

  bool is_large() const { return size >= kIn64; }
  std::uint16_t version() const { return is_large() || offset >= kIn64 ? 45 : 20; }
  /// What local and central headers share, from the version that is needed to the size of the name:
  /// UTF-8 names, stored, of 1980-01-01.
  void put_common(std::string& to) const {
    constexpr std::uint16_t kUtf8 = 0x800, kDate = 0x21;
    put(to, version(), kUtf8, k16, k16, kDate, sum, narrowed(size), narrowed(size), size16(name));
  }
  /// Padding ("FB", as torch.save() names it) lets the data begin at a multiple.
  std::string local() const {
    std::string extra;
    if (is_large()) put(extra, std::uint16_t{1}, std::uint16_t{16}, size, size);
    const std::size_t begin = offset + kLocalSize + name.size() + extra.size() + 4;
    const std::size_t padding = (kAlignment - begin % kAlignment) % kAlignment;
    put(extra, "FB", static_cast<std::uint16_t>(padding));
    extra.append(padding, 'Z');
    std::string text = "PK\3\4";
    put_common(text);
    put(text, size16(extra), name, extra);
    return text;
  }
  void put_central(std::string& to) const {
    std::string wide, extra;
    if (is_large()) put(wide, size, size);
    if (offset >= kIn64) put(wide, offset);
    if (!wide.empty()) put(extra, std::uint16_t{1}, size16(wide), wide);
    put(to, "PK\1\2", version());
    put_common(to);
    put(to, size16(extra), k16, k16, k16, k32, narrowed(offset), name, extra);
  }
};

std::string directory(const std::vector<ZipEntry>& entries, std::uint64_t at) {
  std::string text;
  for (const ZipEntry& entry : entries) entry.put_central(text);
  const std::uint64_t size = text.size(), end = at + size, count = entries.size();
  constexpr std::uint64_t kMostIn16 = 0xffff, kRestOfEnd64 = 44;
  constexpr std::uint16_t kVersion = 45;
  if (at >= kIn64 || count >= kMostIn16) {
    put(text, "PK\6\6", kRestOfEnd64, kVersion, kVersion, k32, k32, count, count, size, at);
    put(text, "PK\6\7", k32, end, std::uint32_t{1});
  }
  const auto few = static_cast<std::uint16_t>(std::min(count, kMostIn16));
  put(text, "PK\5\6", k16, k16, few, few, narrowed(size), narrowed(at), k16);
  return text;
}

/// Opcodes of a pickle of protocol 2.
void put_text(std::string& pickle, std::string_view text) {
  put(pickle, "X", static_cast<std::uint32_t>(text.size()), text);
}
void put_number(std::string& pickle, std::int64_t number) {
  if (number <= INT32_MAX) {
    put(pickle, "J", static_cast<std::int32_t>(number));
  } else {
    put(pickle, "\x8a\x08", number);
  }
}
void put_tuple(std::string& pickle, const std::vector<std::int64_t>& numbers) {
  pickle += "(";
  for (const std::int64_t number : numbers) put_number(pickle, number);
  pickle += "t";
}

constexpr std::string_view kEmptyDict = "ccollections\nOrderedDict\n)R";

/// _rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks).
void put_tensor(std::string& pickle, const std::string& name, const OutTensor& tensor,
                std::size_t key) {
  const std::string_view storage = tensor.type->dtype == DType::f32   ? "FloatStorage"
                                   : tensor.type->dtype == DType::f16 ? "HalfStorage"
                                                                      : "BFloat16Storage";
  std::vector<std::int64_t> strides(tensor.shape.size());
  std::int64_t count = 1;
  for (std::size_t i = strides.size(); i-- > 0; count *= tensor.shape[i]) strides[i] = count;
  put_text(pickle, name);
  pickle += "ctorch._utils\n_rebuild_tensor_v2\n((";
  put_text(pickle, "storage");
  pickle += fmt::format("ctorch\n{}\n", storage);
  put_text(pickle, std::to_string(key));
  put_text(pickle, "cpu");
  put_number(pickle, count);
  pickle += "tQ";
  put_number(pickle, 0);
  put_tuple(pickle, tensor.shape);
  put_tuple(pickle, strides);
  put(pickle, "\x89", kEmptyDict, "tR");
}

}  // namespace

FileLayout torch_layout(std::vector<OutTensor> tensors,
                        const std::vector<std::pair<std::string, std::string>>& shared,
                        const std::string& archive) {
  std::string pickle;
  put(pickle, "\x80\x02", kEmptyDict, "(");
  std::map<std::string, std::size_t> keys;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    keys[tensors[i].name] = i;
    put_tensor(pickle, tensors[i].name, tensors[i], i);
  }
  for (const auto& [name, of] : shared) put_tensor(pickle, name, tensors[keys.at(of)], keys.at(of));
  pickle += "u.";

  FileLayout layout;
  std::vector<ZipEntry> entries;
  const auto begin = [&](const std::string& name, std::size_t size, std::uint32_t sum) {
    entries.push_back({archive + "/" + name, size, layout.size(), sum});
    layout.add(entries.back().local());
  };
  const auto add_text = [&](const std::string& name, const std::string& text) {
    const auto sum = ::crc32_z(0, reinterpret_cast<const Bytef*>(text.data()), text.size());
    begin(name, text.size(), static_cast<std::uint32_t>(sum));
    layout.add(text);
  };
  add_text("data.pkl", pickle);
  add_text("byteorder", "little");
  const std::size_t first = entries.size(), count = tensors.size();
  for (std::size_t i = 0; i < count; ++i) {
    begin("data/" + std::to_string(i), tensors[i].bytes(), 0);
    layout.add(std::move(tensors[i]));
  }
  add_text("version", "3\n");
  const std::size_t at = layout.size();
  layout.add(directory(entries, at));
  // With the sums the same again.
  layout.patches = [entries, first, at](const std::vector<std::uint32_t>& sums) {
    std::vector<ZipEntry> whole = entries;
    std::vector<FileLayout::Patch> patches;
    for (std::size_t i = 0; i < sums.size(); ++i) {
      ZipEntry& entry = whole[first + i];
      entry.sum = sums[i];
      std::string sum;
      put(sum, entry.sum);
      patches.push_back({entry.offset + kSumInLocal, sum});
    }
    patches.push_back({at, directory(whole, at)});
    return patches;
  };
  return layout;
}

}  // namespace quire
