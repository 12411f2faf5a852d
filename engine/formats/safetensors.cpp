#include "engine/formats/safetensors.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string_view>

#include "base/error.h"
#include "base/foreign_file.h"
#include "base/json.h"
#include "base/parallel.h"
#include "engine/model/elements.h"
#include "kernels/device.h"

namespace quire {
namespace {

static_assert(std::endian::native == std::endian::little, "the format is little-endian");

// The reference implementation refuses longer headers too: a larger number is a damaged file.
constexpr std::uint64_t kMaxHeader = 100'000'000;
constexpr const char* kFetchAgain = "download or copy the file again";

// Says what is wrong with one file, and with which tensor.
class Complaint {
 public:
  explicit Complaint(const std::filesystem::path& path) : path_(path) {}

  [[noreturn]] void file(const std::string& why, std::string next = {}) const {
    throw Error(Fault::bad_data, path_.string() + " is not a usable safetensors file", {why},
                std::move(next));
  }
  [[noreturn]] void tensor(const std::string& name, const std::string& why,
                           std::string next = {}) const {
    file("tensor '" + name + "' " + why, std::move(next));
  }

 private:
  const std::filesystem::path& path_;
};

// Parses the header and refuses what a plain parse would pass over in silence: a name that is there
// twice, of which the last would win.
nlohmann::json parse_header(std::string_view text, const Complaint& complain) {
  try {
    nlohmann::json header = parse_json<nlohmann::json>(text);
    if (const auto name = repeated_json_name(text)) {
      complain.file("the header names '" + *name + "' twice");
    }
    return header;
  } catch (const nlohmann::json::exception& error) {
    complain.file("the header is not valid JSON: " + json_trouble(error), kFetchAgain);
  }
}

struct Entry {
  FileTensor tensor;
  std::int64_t begin = 0, end = 0;  // within the data
};

Entry read_entry(const std::string& name, const nlohmann::json& value, std::int64_t data_size,
                 const Complaint& complain) {
  if (!value.is_object()) {
    complain.tensor(name, "is described by " + json_text(value) + ", not an object");
  }
  for (const char* field : {"dtype", "shape", "data_offsets"}) {
    if (!value.contains(field)) complain.tensor(name, std::string("has no \"") + field + "\"");
  }

  Entry entry;
  entry.tensor.name = name;
  const nlohmann::json& dtype = value["dtype"];
  const ElementType* type =
      dtype.is_string() ? element_type(dtype.get_ref<const std::string&>()) : nullptr;
  if (type == nullptr || type->is_quantised) {
    complain.tensor(name, "has the unknown dtype " + json_text(dtype));
  }
  entry.tensor.type = type;

  const nlohmann::json& shape = value["shape"];
  if (!shape.is_array()) {
    complain.tensor(name, "has the shape " + json_text(shape) + ", not a list");
  }
  for (const nlohmann::json& extent : shape) {
    std::int64_t& number = entry.tensor.shape.emplace_back();
    if (!read_json(extent, number) || number < 0) {  // beyond 63 bits it is below 0
      complain.tensor(name, "has the impossible extent " + json_text(extent));
    }
  }
  const std::optional<std::size_t> size = type->bytes_of(entry.tensor.shape);
  if (!size) {
    complain.tensor(name,
                    type->block_elements == 1
                        ? "has the shape " + json_text(shape) + ", more than any file can hold"
                        : "of " + entry.tensor.dtype_name() + " has the shape " + json_text(shape) +
                              ", which does not fill whole bytes");
  }
  const auto bytes = static_cast<std::int64_t>(*size);

  const nlohmann::json& offsets = value["data_offsets"];
  std::pair<std::int64_t, std::int64_t> place;
  if (!read_json(offsets, place) || place.first < 0 || place.second < 0) {
    complain.tensor(name, "has the data_offsets " + json_text(offsets) + ", not [begin, end]");
  }
  const auto [begin, end] = place;
  if (begin > end) {
    complain.tensor(name, "ends before it begins: data_offsets " + json_text(offsets));
  }
  if (end > data_size) {
    complain.tensor(name,
                    fmt::format("lies outside the file: data_offsets {}, but there are {} bytes of "
                                "data",
                                json_text(offsets), data_size),
                    kFetchAgain);
  }
  if (end - begin != bytes) {
    complain.tensor(name, fmt::format("has {} bytes, but {} {} takes {}", end - begin,
                                      entry.tensor.dtype_name(), json_text(shape), bytes));
  }
  entry.begin = begin;
  entry.end = end;
  return entry;
}

/// What lies in memory as a tensor of a file.
OutTensor out_tensor(const TensorToWrite& tensor) {
  FileTensor from;
  from.name = tensor.name;
  from.type = element_type(tensor.view.dtype());
  from.shape = extents_of(tensor.view.shape());
  from.bytes = {static_cast<const std::byte*>(tensor.view.bytes()), tensor.view.size_bytes()};
  OutTensor out = OutTensor::of(from, tensor.name);
  out.type = element_type(tensor.stored_as.value_or(tensor.view.dtype()));
  return out;
}

/// Gives the tensors their data, all of which belongs to one of them each.
void share_out(const std::span<const std::byte> data, std::vector<Entry>& entries,
               const Complaint& complain) {
  // In the order of the data, each tensor must begin where the one before it ended.
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return a.begin != b.begin ? a.begin < b.begin : a.end < b.end;
  });
  std::int64_t covered = 0;
  const std::string* before = nullptr;
  for (Entry& entry : entries) {
    if (entry.begin < covered) {
      complain.tensor(entry.tensor.name,
                      fmt::format("begins at byte {} and overlaps '{}', which ends at {}",
                                  entry.begin, *before, covered));
    }
    if (entry.begin > covered) {
      complain.tensor(entry.tensor.name,
                      fmt::format("begins at byte {}, but bytes from {} belong to no tensor",
                                  entry.begin, covered));
    }
    covered = entry.end;
    before = &entry.tensor.name;
    entry.tensor.bytes = data.subspan(entry.begin, entry.end - entry.begin);
  }
  if (covered != std::ssize(data)) {
    complain.file(fmt::format("the tensors end at byte {} of the data, but there are {}", covered,
                              data.size()));
  }
}

}  // namespace

Safetensors::Safetensors(const std::filesystem::path& path) : TensorSource(path) {
  const Complaint complain(path);
  const auto file = std::make_shared<const MappedFile>(path);
  const std::span<const std::byte> bytes = file->bytes();
  // A header begins with its brace; gzip's first 8 bytes, for one, can pass for its length.
  if (bytes.size() <= sizeof(std::uint64_t) || file->text()[sizeof(std::uint64_t)] != '{') {
    const auto foreign = recognise_foreign(file->text().substr(0, 1024));
    if (foreign) complain.file(foreign->what, foreign->next);
    // What a server says instead: "Entry not found", {"error": …}.
    const std::string_view beginning = file->text().substr(0, 40);
    const auto printable = [](char c) { return c >= ' ' && c <= '~'; };
    if (beginning.size() >= sizeof(std::uint64_t) &&
        std::all_of(beginning.begin(), beginning.begin() + sizeof(std::uint64_t), printable)) {
      const auto end = std::find_if_not(beginning.begin(), beginning.end(), printable);
      complain.file("it is a text, which begins: " + std::string(beginning.begin(), end),
                    kFetchAgain);
    }
  }
  std::uint64_t header_size = 0;
  if (bytes.size() < sizeof header_size) {
    complain.file(fmt::format("it has {} bytes and ends inside the header's length", bytes.size()),
                  kFetchAgain);
  }
  std::memcpy(&header_size, bytes.data(), sizeof header_size);
  if (header_size > kMaxHeader) {
    complain.file(fmt::format("it claims a header of {} bytes; at most {} are allowed", header_size,
                              kMaxHeader));
  }
  if (header_size > bytes.size() - sizeof header_size) {
    complain.file(fmt::format("it claims a header of {} bytes, but has only {} bytes in all",
                              header_size, bytes.size()),
                  kFetchAgain);
  }
  const std::string_view text = file->text().substr(sizeof header_size, header_size);
  const std::span<const std::byte> data = bytes.subspan(sizeof header_size + header_size);

  const nlohmann::json header = parse_header(text, complain);
  if (!header.is_object()) {
    complain.file("the header is " + std::string(header.type_name()) + ", not an object");
  }
  std::vector<Entry> entries;
  for (const auto& [name, value] : header.items()) {
    if (name != "__metadata__") {
      entries.push_back(read_entry(name, value, std::ssize(data), complain));
      continue;
    }
    if (!value.is_object()) {
      complain.file("__metadata__ is " + json_text(value) + ", not an object");
    }
    for (const auto& [key, entry] : value.items()) {
      if (!entry.is_string()) {
        complain.file("__metadata__ of '" + key + "' is " + json_text(entry) + ", not a string");
      }
      metadata_[key] = entry.get<std::string>();
    }
  }

  share_out(data, entries, complain);
  for (Entry& entry : entries) {
    entry.tensor.file = file;
    add(std::move(entry.tensor));
  }
}

Shards::Shards(const std::filesystem::path& index_json,
               TensorSource (*open)(const std::filesystem::path& shard))
    : TensorSource(index_json) {
  const std::string text = read_file(path());
  const auto complain = [&](const std::string& why) {
    throw unusable_file(path().string() + " is not a usable index of weights", text, why);
  };
  nlohmann::json index;
  try {
    index = parse_json<nlohmann::json>(text);
  } catch (const nlohmann::json::exception& error) {
    complain("it is not valid JSON: " + json_trouble(error));
  }
  if (!index.is_object() || !index.contains("weight_map") || !index["weight_map"].is_object()) {
    complain("it has no \"weight_map\"");
  }
  std::map<std::string, std::set<std::string>> shards;  // file -> names of its tensors
  for (const auto& [name, file] : index["weight_map"].items()) {
    const bool plain = file.is_string() &&
                       file == std::filesystem::path(file.get<std::string>()).filename().string();
    if (!plain || file == "" || file == "..") {
      complain("tensor '" + name + "' lies in " + json_text(file) +
               ", which is not the name of a file beside it");
    }
    shards[file.get<std::string>()].insert(name);
  }
  for (const auto& [name, tensors] : shards) {
    const std::filesystem::path shard = path().parent_path() / name;
    if (std::error_code ignored; !std::filesystem::exists(shard, ignored)) {
      throw Error(Fault::bad_data, shard.string() + " is missing",
                  {fmt::format("{} puts {} tensors into it, '{}' among them",
                               path().filename().string(), tensors.size(), *tensors.begin())},
                  "download or copy the whole folder again");
    }
    const TensorSource file = open(shard);
    for (const std::string& tensor : tensors) {
      const FileTensor* found = file.find(tensor);
      if (found == nullptr) {
        throw Error(Fault::bad_data, shard.string() + " does not hold tensor '" + tensor + "'",
                    {path().filename().string() + " says that it does"});
      }
      add(*found);
    }
  }
}

FileLayout safetensors_layout(std::vector<OutTensor> tensors,
                              const std::map<std::string, std::string>& metadata) {
  // Written by hand: nlohmann::ordered_json looks for each name among all those before it.
  std::string text = "{";
  const auto add = [&](const std::string& name, const nlohmann::ordered_json& value) {
    text += (text.size() > 1 ? "," : "") + json_text(nlohmann::json(name)) + ":" + json_text(value);
  };
  if (!metadata.empty()) add("__metadata__", metadata);
  std::size_t offset = 0;
  std::set<std::string> names{"__metadata__"};
  for (const OutTensor& tensor : tensors) {
    if (!names.insert(tensor.name).second) {
      throw Error(Fault::internal, "write_safetensors: the name '" + tensor.name + "' is taken");
    }
    const std::size_t bytes = tensor.bytes();
    nlohmann::ordered_json entry;
    entry["dtype"] = tensor.type->name;
    entry["shape"] = tensor.shape;
    entry["data_offsets"] = {offset, offset + bytes};
    add(tensor.name, entry);
    offset += bytes;
  }
  text += "}";
  // Spaces after the JSON are part of the format. The data on a multiple of 64 lets a mapped matrix
  // start on a cache line wherever those before it fill whole lines.
  constexpr std::size_t kAlignment = 64;
  const std::size_t unpadded = sizeof(std::uint64_t) + text.size();
  text.append((kAlignment - unpadded % kAlignment) % kAlignment, ' ');

  FileLayout layout;
  const std::uint64_t header_size = text.size();
  std::string header(sizeof header_size, '\0');
  std::memcpy(header.data(), &header_size, sizeof header_size);
  layout.add(header + text);
  for (OutTensor& tensor : tensors) layout.add(std::move(tensor));
  return layout;
}

void write_safetensors(const std::filesystem::path& path, std::span<const TensorToWrite> tensors,
                       const std::map<std::string, std::string>& metadata,
                       const TextsBeside& beside) {
  std::vector<OutTensor> out;
  out.reserve(tensors.size());
  for (const TensorToWrite& tensor : tensors) out.push_back(out_tensor(tensor));
  const FileLayout layout = safetensors_layout(std::move(out), metadata);
  AtomicFile file(path);
  write(file, layout);
  for (const auto& [name, content] : beside) write_file(path.parent_path() / name, content);
  file.commit();
}

void save_weights(Device& device, const std::filesystem::path& weights,
                  std::vector<TensorToWrite> tensors, const TextsBeside& beside,
                  const WhyNotSaved& refuse) {
  std::vector<std::vector<std::byte>> copies;  // of what the host cannot read in place
  for (TensorToWrite& tensor : tensors) {
    if (device.shares_host_memory()) break;
    std::vector<std::byte>& copy = copies.emplace_back(tensor.view.size_bytes());
    device.copy_to_host(copy.data(), tensor.view.bytes(), copy.size());
    tensor.view = ConstView(copy.data(), tensor.view.dtype(), tensor.view.shape());
  }
  device.synchronize();
  parallel_for(0, tensors.size(), [&](std::size_t i) {
    const ConstView& view = tensors[i].view;
    const auto* data = static_cast<const std::byte*>(view.bytes());
    if (const std::optional<std::int64_t> bad = find_not_finite(data, view.dtype(), view.count())) {
      throw refuse("tensor '" + tensors[i].name + "' holds " +
                       std::to_string(element(data, view.dtype(), *bad)),
                   "at element " + std::to_string(*bad) + " of " + view.shape().to_string());
    }
  });
  make_folder(weights.parent_path());
  write_safetensors(weights, tensors, {{"format", "pt"}}, beside);
}

}  // namespace quire
