// Files of weights as other programs write them, byte by byte, for tests of what reads them.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace quire::test {

/// The bytes of a number, little-endian.
template <class T>
std::string little(T number) {
  std::string bytes(sizeof number, '\0');
  std::memcpy(bytes.data(), &number, sizeof number);
  return bytes;
}
inline std::string floats(const std::vector<float>& values) {
  std::string bytes;
  for (const float value : values) bytes += little(value);
  return bytes;
}

// ---- pickles, of protocol 2: what each of these leaves on the stack is what it is called

inline std::string p_text(const std::string& text) {
  return "X" + little(static_cast<std::uint32_t>(text.size())) + text;
}
inline std::string p_integer(std::int64_t number) {
  return std::string("\x8a\x08", 2) + little(number);
}
inline std::string p_boolean(bool value) {
  return value ? "\x88" : "\x89";
}
inline std::string p_global(const std::string& module, const std::string& name) {
  return "c" + module + "\n" + name + "\n";
}
inline std::string p_tuple(const std::vector<std::string>& parts) {
  std::string text = "(";
  for (const std::string& part : parts) text += part;
  return text + "t";
}
inline std::string p_call(const std::string& function, const std::vector<std::string>& arguments) {
  return function + p_tuple(arguments) + "R";
}
inline std::string p_dict(const std::vector<std::pair<std::string, std::string>>& entries) {
  std::string text = "}(";
  for (const auto& [key, value] : entries) text += p_text(key) + value;
  return text + "u";
}
inline std::string p_integers(const std::vector<std::int64_t>& numbers) {
  std::vector<std::string> parts;
  parts.reserve(numbers.size());
  for (const std::int64_t number : numbers) parts.push_back(p_integer(number));
  return p_tuple(parts);
}
inline std::string pickle(const std::string& value) {
  return "\x80\x02" + value + ".";
}

/// A tensor as torch.save() writes it.
struct TorchTensor {
  std::vector<std::int64_t> shape, strides;
  std::int64_t offset = 0;
  std::int64_t count = 0;  ///< elements of the storage
  std::string key = "0";
  std::string type = "FloatStorage";
};
inline std::string p_tensor(const TorchTensor& tensor) {
  const std::string storage =
      p_tuple({p_text("storage"), p_global("torch", tensor.type), p_text(tensor.key), p_text("cpu"),
               p_integer(tensor.count)}) +
      "Q";
  return p_call(
      p_global("torch._utils", "_rebuild_tensor_v2"),
      {storage, p_integer(tensor.offset), p_integers(tensor.shape), p_integers(tensor.strides),
       p_boolean(false), p_global("collections", "OrderedDict") + ")R"});
}

// ---- zip archives

struct ZipEntry {
  std::string name, bytes;
  std::uint16_t flags = 0, method = 0;
  std::string local_name = {};      ///< where it is not that of the directory
  std::uint32_t claimed_size = 0;   ///< where it is not that of the bytes
  std::uint32_t claimed_place = 0;  ///< of the local header, where it is not where that is
  std::string extra = {};           ///< in the directory
};
/// `tail` comes before the end's record: what ZIP64 has there.
inline std::string zip_file(const std::vector<ZipEntry>& entries, const std::string& tail = {}) {
  std::string file, directory;
  for (const ZipEntry& entry : entries) {
    const auto size = static_cast<std::uint32_t>(entry.bytes.size());
    const auto claimed = entry.claimed_size != 0 ? entry.claimed_size : size;
    const auto place =
        entry.claimed_place != 0 ? entry.claimed_place : static_cast<std::uint32_t>(file.size());
    const std::string& local = entry.local_name.empty() ? entry.name : entry.local_name;
    const auto common = [&](std::size_t name_size, std::size_t extra_size) {
      return little(std::uint16_t{20}) + little(entry.flags) + little(entry.method) +
             little(std::uint32_t{0}) + little(std::uint32_t{0}) + little(claimed) +
             little(claimed) + little(static_cast<std::uint16_t>(name_size)) +
             little(static_cast<std::uint16_t>(extra_size));
    };
    file += "PK\3\4" + common(local.size(), 0) + local + entry.bytes;
    directory += "PK\1\2" + little(std::uint16_t{20}) +
                 common(entry.name.size(), entry.extra.size()) + std::string(10, '\0') +
                 little(place) + entry.name + entry.extra;
  }
  const auto count = static_cast<std::uint16_t>(entries.size());
  const auto at = static_cast<std::uint32_t>(file.size());
  return file + directory + tail + "PK\5\6" + std::string(4, '\0') + little(count) + little(count) +
         little(static_cast<std::uint32_t>(directory.size())) + little(at) + std::string(2, '\0');
}

/// What torch.save() writes: the pickle of an object, and its storages by key.
using Storages = std::vector<std::pair<std::string, std::string>>;
inline std::string torch_zip(const std::string& object, const Storages& storages) {
  std::vector<ZipEntry> entries = {{"archive/data.pkl", pickle(object)},
                                   {"archive/byteorder", "little"}};
  for (const auto& [key, bytes] : storages) entries.push_back({"archive/data/" + key, bytes});
  return zip_file(entries);
}
/// The form before PyTorch 1.6, of storages whose elements have `size` bytes.
inline std::string torch_row(const std::string& object, const Storages& storages,
                             std::size_t size = 4) {
  std::string keys = "](", data;
  for (const auto& [key, bytes] : storages) {
    keys += p_text(key);
    data += little(static_cast<std::int64_t>(bytes.size() / size)) + bytes;
  }
  return pickle(std::string("\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19")) +
         pickle(p_integer(1001)) +
         pickle(
             p_dict({{"protocol_version", p_integer(1001)}, {"little_endian", p_boolean(true)}})) +
         pickle(object) + pickle(keys + "e") + data;
}

// ---- GGUF

inline std::string g_text(const std::string& text) {
  return little(static_cast<std::uint64_t>(text.size())) + text;
}
inline std::string g_entry(const std::string& name, std::uint32_t type, const std::string& value) {
  return g_text(name) + little(type) + value;
}
inline std::string g_number(const std::string& name, std::uint32_t number) {
  return g_entry(name, 4, little(number));
}
struct GgufTensor {
  std::string name;
  std::vector<std::uint64_t> extents;  ///< the fastest first
  std::uint32_t type;                  ///< ggml's number
  std::string bytes;
  std::int64_t moved = 0;  ///< what is added to its place
};
/// The metadata that a GPT-2 of one block of C channels has.
inline std::vector<std::string> gguf_metadata(std::uint32_t C) {
  return {g_entry("general.architecture", 8, g_text("gpt2")),
          g_number("gpt2.block_count", 1),
          g_number("gpt2.context_length", 2),
          g_number("gpt2.embedding_length", C),
          g_number("gpt2.feed_forward_length", 4 * C),
          g_number("gpt2.attention.head_count", 2),
          g_entry("gpt2.attention.layer_norm_epsilon", 6, little(1e-5f))};
}
inline std::string gguf_file(const std::vector<std::string>& metadata,
                             const std::vector<GgufTensor>& tensors) {
  constexpr std::size_t kAlignment = 32;
  std::string file = "GGUF" + little(std::uint32_t{3}) +
                     little(static_cast<std::uint64_t>(tensors.size())) +
                     little(static_cast<std::uint64_t>(metadata.size()));
  std::string data;
  for (const std::string& entry : metadata) file += entry;
  for (const GgufTensor& tensor : tensors) {
    file += g_text(tensor.name) + little(static_cast<std::uint32_t>(tensor.extents.size()));
    for (const std::uint64_t extent : tensor.extents) file += little(extent);
    file += little(tensor.type) + little(static_cast<std::int64_t>(data.size()) + tensor.moved);
    data += tensor.bytes;
    data.resize((data.size() + kAlignment - 1) / kAlignment * kAlignment);
  }
  file.resize((file.size() + kAlignment - 1) / kAlignment * kAlignment);
  return file + data;
}

// ---- llm.c

/// A model of one block of 2 channels, 3 tokens filled up to 4, and 2 positions, in float32, all of
/// whose weights count from 0 on.
inline std::string llmc_file(std::vector<std::int32_t> header = {20240326, 3, 2, 3, 1, 1, 2, 4}) {
  constexpr int C = 2, kWeights = (4 + 2) * C + 12 * C * C + 13 * C + 2 * C;
  header.resize(256);
  std::string file;
  for (const std::int32_t number : header) file += little(number);
  for (int i = 0; i < kWeights; ++i) file += little(static_cast<float>(i));
  return file;
}

}  // namespace quire::test
