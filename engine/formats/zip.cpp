#include "engine/formats/zip.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

namespace quire {
namespace {

constexpr std::string_view kLocal = "PK\3\4", kCentral = "PK\1\2", kEnd = "PK\5\6";
constexpr std::string_view kEnd64 = "PK\6\6", kLocator64 = "PK\6\7";
constexpr std::size_t kLocalSize = 30, kCentralSize = 46, kEndSize = 22, kEnd64Size = 56;
constexpr std::size_t kLocatorSize = 20, kLongestComment = 65535;
constexpr std::uint32_t kIn64 = 0xffffffff;  // "in the ZIP64 field"

using Complain = std::function<void(const std::string& why)>;

/// A record at a place of the archive, all of whose `size` bytes are there.
class Record {
 public:
  Record(std::string_view archive, std::uint64_t at, std::string_view signature, std::size_t size,
         const Complain& complain) {
    if (at > archive.size() || size > archive.size() - at ||
        !archive.substr(at).starts_with(signature)) {
      complain(fmt::format("the archive's directory is damaged at byte {}", at));
    }
    bytes_ = archive.substr(at, size);
  }
  template <class T>
  T at(std::size_t offset) const {
    T value;
    std::memcpy(&value, bytes_.data() + offset, sizeof value);
    return value;
  }

 private:
  std::string_view bytes_;
};

/// Replaces those of `numbers` that are in the ZIP64 field by what it says, in their order.
void read_zip64(std::string_view extra, std::span<std::uint64_t> numbers) {
  while (extra.size() >= 4) {
    std::uint16_t id = 0, size = 0;
    std::memcpy(&id, extra.data(), 2);
    std::memcpy(&size, extra.data() + 2, 2);
    std::string_view field = extra.substr(4, size);
    extra.remove_prefix(std::min(extra.size(), std::size_t{4} + size));
    if (id != 1) continue;
    for (std::uint64_t& number : numbers) {
      if (number != kIn64 || field.size() < sizeof number) continue;
      std::memcpy(&number, field.data(), sizeof number);
      field.remove_prefix(sizeof number);
    }
  }
}

struct Directory {
  std::uint64_t entries, at;
};

Directory find_directory(std::string_view archive, const Complain& complain) {
  const std::size_t earliest =
      archive.size() - std::min(archive.size(), kEndSize + kLongestComment);
  std::size_t end = archive.substr(earliest).rfind(kEnd);
  if (end == std::string_view::npos) {
    complain("it is an archive without a directory: its end is missing");
  }
  end += earliest;
  const Record last(archive, end, kEnd, kEndSize, complain);
  Directory found = {last.at<std::uint16_t>(10), last.at<std::uint32_t>(16)};
  if (end >= kLocatorSize && archive.substr(end - kLocatorSize).starts_with(kLocator64)) {
    const Record locator(archive, end - kLocatorSize, kLocator64, kLocatorSize, complain);
    const Record wide(archive, locator.at<std::uint64_t>(8), kEnd64, kEnd64Size, complain);
    found = {wide.at<std::uint64_t>(32), wide.at<std::uint64_t>(48)};
  }
  return found;
}

}  // namespace

bool begins_as_zip(std::string_view beginning) {
  return beginning.starts_with(kLocal);
}

std::map<std::string, std::span<const std::byte>, std::less<>> files_of_zip(
    std::span<const std::byte> archive, const Complain& complain) {
  const std::string_view text(reinterpret_cast<const char*>(archive.data()), archive.size());
  std::map<std::string, std::span<const std::byte>, std::less<>> files;
  const Directory directory = find_directory(text, complain);
  std::uint64_t at = directory.at;
  for (std::uint64_t i = 0; i < directory.entries; ++i) {
    const Record entry(text, at, kCentral, kCentralSize, complain);
    const std::size_t name_size = entry.at<std::uint16_t>(28);
    const std::size_t extra_size = entry.at<std::uint16_t>(30);
    const std::size_t whole = kCentralSize + name_size + extra_size + entry.at<std::uint16_t>(32);
    const Record checked(text, at, kCentral, whole, complain);
    const std::string name(text.substr(at + kCentralSize, name_size));
    std::uint64_t sizes[] = {entry.at<std::uint32_t>(24), entry.at<std::uint32_t>(20),
                             entry.at<std::uint32_t>(42)};
    read_zip64(text.substr(at + kCentralSize + name_size, extra_size), sizes);
    const auto [size, packed, local_at] = sizes;
    at += whole;

    if ((entry.at<std::uint16_t>(8) & 1) != 0) complain(fmt::format("'{}' is encrypted", name));
    if (entry.at<std::uint16_t>(10) != 0 || size != packed) {
      complain(fmt::format("'{}' is compressed, which torch.save() never does", name));
    }
    const Record local(text, local_at, kLocal, kLocalSize, complain);
    const std::uint64_t data =
        local_at + kLocalSize + local.at<std::uint16_t>(26) + local.at<std::uint16_t>(28);
    if (text.substr(local_at + kLocalSize, local.at<std::uint16_t>(26)) != name) {
      complain(fmt::format("'{}' has another name where it lies", name));
    }
    if (data > archive.size() || size > archive.size() - data) {
      complain(fmt::format("'{}' of {} bytes lies outside the file, which has {}", name, size,
                           archive.size()));
    }
    if (!files.emplace(name, archive.subspan(data, size)).second) {
      complain(fmt::format("'{}' is there twice", name));
    }
  }
  return files;
}

}  // namespace quire
