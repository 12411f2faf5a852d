#include "engine/formats/safetensors.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string_view>

#include "base/error.h"
#include "base/foreign_file.h"
#include "base/json.h"
#include "engine/model/elements.h"

namespace quire {
namespace {

static_assert(std::endian::native == std::endian::little, "the format is little-endian");

// The reference implementation refuses longer headers too: a larger number is a damaged file.
constexpr std::uint64_t kMaxHeader = 100'000'000;
constexpr const char* kFetchAgain = "download or copy the file again";

struct StoredType {
  std::string_view name;
  unsigned bits;
};
constexpr StoredType kTypes[] = {
    {"F32", 32},    {"F16", 16},    {"BF16", 16},       {"I32", 32},        {"BOOL", 8},
    {"U8", 8},      {"I8", 8},      {"U16", 16},        {"I16", 16},        {"U32", 32},
    {"I64", 64},    {"U64", 64},    {"F64", 64},        {"C64", 64},        {"F8_E4M3", 8},
    {"F8_E5M2", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}, {"F6_E2M3", 6},
    {"F6_E3M2", 6}, {"F4", 4},
};

std::optional<unsigned> bits_of(std::string_view name) {
  for (const StoredType& type : kTypes) {
    if (type.name == name) return type.bits;
  }
  return std::nullopt;
}

std::optional<DType> dtype_from(std::string_view name) {
  if (name == "F32") return DType::f32;
  if (name == "F16") return DType::f16;
  if (name == "BF16") return DType::bf16;
  if (name == "I32") return DType::i32;
  return std::nullopt;
}

const char* stored_name(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return "F32";
    case DType::f16:
      return "F16";
    case DType::bf16:
      return "BF16";
    case DType::i32:
      return "I32";
  }
  return "?";
}

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

// A whole number of at most 63 bits, as extents and offsets are.
std::optional<std::int64_t> whole_number(const nlohmann::json& value) {
  if (!value.is_number_unsigned()) return std::nullopt;
  const std::uint64_t number = value.get<std::uint64_t>();
  if (number > static_cast<std::uint64_t>(INT64_MAX)) return std::nullopt;
  return static_cast<std::int64_t>(number);
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
  const std::optional<unsigned> bits =
      dtype.is_string() ? bits_of(dtype.get_ref<const std::string&>()) : std::nullopt;
  if (!bits) complain.tensor(name, "has the unknown dtype " + json_text(dtype));
  entry.tensor.dtype_name = dtype.get<std::string>();

  const nlohmann::json& shape = value["shape"];
  if (!shape.is_array()) {
    complain.tensor(name, "has the shape " + json_text(shape) + ", not a list");
  }
  std::int64_t bit_count = *bits;
  bool empty = false;
  for (const nlohmann::json& extent : shape) {
    const std::optional<std::int64_t> number = whole_number(extent);
    if (!number) complain.tensor(name, "has the impossible extent " + json_text(extent));
    entry.tensor.shape.push_back(*number);
    empty |= *number == 0;
  }
  for (const std::int64_t extent : entry.tensor.shape) {
    if (!empty && __builtin_mul_overflow(bit_count, extent, &bit_count)) {
      complain.tensor(name, "has the shape " + json_text(shape) + ", more than any file can hold");
    }
  }
  const std::int64_t bytes = empty ? 0 : bit_count / 8;
  if (!empty && bit_count % 8 != 0) {
    complain.tensor(name, "of " + entry.tensor.dtype_name + " has the shape " + json_text(shape) +
                              ", which does not fill whole bytes");
  }

  const nlohmann::json& offsets = value["data_offsets"];
  const bool pair = offsets.is_array() && offsets.size() == 2;
  const auto begin = pair ? whole_number(offsets[0]) : std::nullopt;
  const auto end = pair ? whole_number(offsets[1]) : std::nullopt;
  if (!begin || !end) {
    complain.tensor(name, "has the data_offsets " + json_text(offsets) + ", not [begin, end]");
  }
  if (*begin > *end) {
    complain.tensor(name, "ends before it begins: data_offsets " + json_text(offsets));
  }
  if (*end > data_size) {
    complain.tensor(name,
                    "lies outside the file: data_offsets " + json_text(offsets) +
                        ", but there are " + std::to_string(data_size) + " bytes of data",
                    kFetchAgain);
  }
  if (*end - *begin != bytes) {
    complain.tensor(name, "has " + std::to_string(*end - *begin) + " bytes, but " +
                              entry.tensor.dtype_name + " " + json_text(shape) + " takes " +
                              std::to_string(bytes));
  }
  entry.begin = *begin;
  entry.end = *end;
  return entry;
}

void write_data(AtomicFile& file, const TensorToWrite& tensor) {
  const DType from = tensor.view.dtype();
  const DType to = tensor.stored_as.value_or(from);
  const auto* data = static_cast<const std::byte*>(tensor.view.bytes());
  if (from == to) {
    file.write(std::span(data, tensor.view.size_bytes()));
    return;
  }
  constexpr std::int64_t kBlock = 1 << 16;
  std::vector<float> values;
  std::vector<std::byte> stored;
  for (std::int64_t first = 0; first < tensor.view.count(); first += kBlock) {
    const std::int64_t part = std::min(kBlock, tensor.view.count() - first);
    values.resize(static_cast<std::size_t>(part));
    stored.resize(static_cast<std::size_t>(part) * size_of(to));
    const std::byte* block = data + first * static_cast<std::int64_t>(size_of(from));
    read_elements(block, from, values);
    write_elements(values, to, stored.data());
    const std::optional<std::int64_t> overflow = find_not_finite(stored.data(), to, part);
    if (overflow &&
        !find_not_finite(block + *overflow * static_cast<std::int64_t>(size_of(from)), from, 1)) {
      throw Error(
          Fault::bad_data, "tensor '" + tensor.name + "' cannot be stored as " + name_of(to),
          {"element " + std::to_string(first + *overflow) + " is " +
           std::to_string(values[static_cast<std::size_t>(*overflow)]) +
           "; the largest number of that type is " + (to == DType::f16 ? "65504" : "3.39e38")},
          "store it as bfloat16 or float32");
    }
    file.write(stored);
  }
}

}  // namespace

std::string to_string(const std::vector<std::int64_t>& shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i)
    text += (i > 0 ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

bool FileTensor::has_dtype() const {
  return dtype_from(dtype_name).has_value();
}

DType FileTensor::dtype() const {
  const std::optional<DType> known = dtype_from(dtype_name);
  if (!known) {
    throw Error(Fault::bad_data, "tensor '" + name + "' is of type " + dtype_name,
                {"read are F32, F16, BF16 and I32"});
  }
  return *known;
}

bool FileTensor::aligned() const {
  return reinterpret_cast<std::uintptr_t>(bytes.data()) % size_of(dtype()) == 0;
}

ConstView FileTensor::view() const {
  if (!aligned()) {
    throw Error(Fault::bad_data, "the data of tensor '" + name + "' is not aligned to its type");
  }
  switch (shape.size()) {
    case 0:
      return {bytes.data(), dtype(), Shape{}};
    case 1:
      return {bytes.data(), dtype(), Shape{shape[0]}};
    case 2:
      return {bytes.data(), dtype(), Shape{shape[0], shape[1]}};
    case 3:
      return {bytes.data(), dtype(), Shape{shape[0], shape[1], shape[2]}};
    case 4:
      return {bytes.data(), dtype(), Shape{shape[0], shape[1], shape[2], shape[3]}};
    default:
      throw Error(Fault::bad_data, "tensor '" + name + "' has the shape " + to_string(shape),
                  {"at most 4 extents are supported"});
  }
}

Safetensors::Safetensors(const std::filesystem::path& path) : file_(path) {
  const Complaint complain(file_.path());
  const std::span<const std::byte> bytes = file_.bytes();
  // A header begins with its brace; gzip's first 8 bytes, for one, can pass for its length.
  if (bytes.size() <= sizeof(std::uint64_t) || file_.text()[sizeof(std::uint64_t)] != '{') {
    const auto foreign = recognise_foreign(file_.text().substr(0, 1024));
    if (foreign) complain.file(foreign->what, foreign->next);
    // What a server says instead: "Entry not found", {"error": …}.
    const std::string_view beginning = file_.text().substr(0, 40);
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
    complain.file(
        "it has " + std::to_string(bytes.size()) + " bytes and ends inside the header's length",
        kFetchAgain);
  }
  std::memcpy(&header_size, bytes.data(), sizeof header_size);
  if (header_size > kMaxHeader) {
    complain.file("it claims a header of " + std::to_string(header_size) + " bytes; at most " +
                  std::to_string(kMaxHeader) + " are allowed");
  }
  if (header_size > bytes.size() - sizeof header_size) {
    complain.file("it claims a header of " + std::to_string(header_size) + " bytes, but has only " +
                      std::to_string(bytes.size()) + " bytes in all",
                  kFetchAgain);
  }
  const std::string_view text = file_.text().substr(sizeof header_size, header_size);
  const std::span<const std::byte> data = bytes.subspan(sizeof header_size + header_size);
  const std::int64_t data_size = static_cast<std::int64_t>(data.size());

  const nlohmann::json header = parse_header(text, complain);
  if (!header.is_object()) {
    complain.file("the header is " + std::string(header.type_name()) + ", not an object");
  }
  std::vector<Entry> entries;
  for (const auto& [name, value] : header.items()) {
    if (name != "__metadata__") {
      entries.push_back(read_entry(name, value, data_size, complain));
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

  // In the order of the data, each tensor must begin where the one before it ended.
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return a.begin != b.begin ? a.begin < b.begin : a.end < b.end;
  });
  std::int64_t covered = 0;
  const std::string* before = nullptr;
  for (Entry& entry : entries) {
    if (entry.begin < covered) {
      complain.tensor(entry.tensor.name, "begins at byte " + std::to_string(entry.begin) +
                                             " and overlaps '" + *before + "', which ends at " +
                                             std::to_string(covered));
    }
    if (entry.begin > covered) {
      complain.tensor(entry.tensor.name, "begins at byte " + std::to_string(entry.begin) +
                                             ", but bytes from " + std::to_string(covered) +
                                             " belong to no tensor");
    }
    covered = entry.end;
    before = &entry.tensor.name;
    entry.tensor.bytes = data.subspan(static_cast<std::size_t>(entry.begin),
                                      static_cast<std::size_t>(entry.end - entry.begin));
  }
  if (covered != data_size) {
    complain.file("the tensors end at byte " + std::to_string(covered) +
                  " of the data, but there are " + std::to_string(data_size));
  }
  tensors_.reserve(entries.size());
  for (Entry& entry : entries) tensors_.push_back(std::move(entry.tensor));
  for (std::size_t i = 0; i < tensors_.size(); ++i) places_.emplace(tensors_[i].name, i);
}

const FileTensor* Safetensors::find(const std::string& name) const {
  const auto place = places_.find(name);
  return place == places_.end() ? nullptr : &tensors_[place->second];
}

void write_safetensors(AtomicFile& file, std::span<const TensorToWrite> tensors,
                       const std::map<std::string, std::string>& metadata) {
  // Written by hand: nlohmann::ordered_json looks for each name among all those before it.
  std::string text = "{";
  const auto add = [&](const std::string& name, const nlohmann::ordered_json& value) {
    text += (text.size() > 1 ? "," : "") + json_text(nlohmann::json(name)) + ":" + json_text(value);
  };
  if (!metadata.empty()) add("__metadata__", metadata);
  std::size_t offset = 0;
  std::set<std::string> names{"__metadata__"};
  for (const TensorToWrite& tensor : tensors) {
    if (!names.insert(tensor.name).second) {
      throw Error(Fault::internal, "write_safetensors: the name '" + tensor.name + "' is taken");
    }
    const DType dtype = tensor.stored_as.value_or(tensor.view.dtype());
    const std::size_t bytes = static_cast<std::size_t>(tensor.view.count()) * size_of(dtype);
    const Shape& shape = tensor.view.shape();
    nlohmann::ordered_json entry;
    entry["dtype"] = stored_name(dtype);
    entry["shape"] = nlohmann::ordered_json::array();
    for (int i = 0; i < shape.rank(); ++i) entry["shape"].push_back(shape[i]);
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

  const std::uint64_t header_size = text.size();
  file.write(std::as_bytes(std::span(&header_size, 1)));
  file.write(text);
  for (const TensorToWrite& tensor : tensors) write_data(file, tensor);
}

void write_safetensors(const std::filesystem::path& path, std::span<const TensorToWrite> tensors,
                       const std::map<std::string, std::string>& metadata) {
  AtomicFile file(path);
  write_safetensors(file, tensors, metadata);
  file.commit();
}

}  // namespace quire
