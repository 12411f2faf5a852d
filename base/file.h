// Files: mapping them, reading them, and replacing them so that nothing is ever lost.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace quire {

/// A number that open() gave, closed with the object.
class Descriptor {
 public:
  explicit Descriptor(int number) : number_(number) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor();
  operator int() const { return number_; }  ///< -1: it was not opened
  int close();                              ///< as ::close(), before the end

 private:
  int number_;
};

/// A whole file mapped for reading. Move-only; the mapping ends with the object.
/// Throws Error(bad_data) naming the file when it cannot be opened.
class MappedFile {
 public:
  explicit MappedFile(const std::filesystem::path& path);
  /// What is in the file now. It need not outlive the mapping.
  explicit MappedFile(const class ScratchFile& file);
  MappedFile(MappedFile&&) noexcept = default;
  MappedFile& operator=(MappedFile&&) noexcept = default;

  std::span<const std::byte> bytes() const { return {data_.get(), size_}; }
  std::string_view text() const { return {reinterpret_cast<const char*>(data_.get()), size_}; }
  const std::filesystem::path& path() const { return path_; }
  /// Bytes first … last - 1 need no memory for now. They can be read again: from the file.
  void let_go(std::size_t first, std::size_t last) const;
  /// The same for a part of text().
  void let_go(std::string_view part) const;

 private:
  void map(int descriptor);

  std::filesystem::path path_;
  std::shared_ptr<const std::byte> data_;  // whose end is the mapping's
  std::size_t size_ = 0;
};

/// The whole file as a string. Throws Error(bad_data) naming the file.
std::string read_file(const std::filesystem::path& path);

/// Writes a file so that at every moment the old or the new content is there, whole: writes
/// PATH.tmp-PID, flushes it to disk, renames it over PATH, and flushes the folder. Call commit() at
/// the end; without it (an exception, say) the temporary file is removed and PATH stays as it was.
/// Every failure throws Error: no_space when the disk is full, bad_data otherwise.
class AtomicFile {
 public:
  explicit AtomicFile(std::filesystem::path path);
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  ~AtomicFile();

  void write(std::span<const std::byte> bytes);
  void write(std::string_view text);
  /// Instead of write(): room for so many bytes in all, which write_at() fills in any order and from
  /// any threads. A full disk is known before any of them is made.
  void reserve(std::size_t size);
  void write_at(std::size_t offset, std::span<const std::byte> bytes) const;
  void commit();

 private:
  void fail(const char* action);
  void flush();

  std::filesystem::path path_;
  std::filesystem::path temporary_;
  Descriptor descriptor_;
  std::string pending_;  // small writes are gathered here
  bool committed_ = false;
};

/// AtomicFile with one write.
void write_file(const std::filesystem::path& path, std::string_view text);

/// A file that grows at its end, made where there is none. What one write() adds is there at once
/// for others to read. Failures throw Error: no_space when the disk is full, bad_data otherwise.
class AppendFile {
 public:
  explicit AppendFile(std::filesystem::path path);

  void write(std::string_view text);
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  Descriptor descriptor_;
};

/// Where large files go that nobody needs later: $TMPDIR, /var/tmp or /tmp. /var/tmp comes first of
/// these, since many systems keep /tmp in memory.
std::filesystem::path scratch_folder();

/// Bytes that nobody needs later than this object: a file without a name, which is gone with the
/// process. Failures throw Error: no_space when the disk is full, bad_data otherwise.
class ScratchFile {
 public:
  /// In `folder`; without one in scratch_folder().
  explicit ScratchFile(const std::filesystem::path& folder = {});

  void write(std::string_view bytes);  ///< at the end
  /// Bytes offset … offset + to.size() - 1. Throws where the file has fewer.
  void read(std::size_t offset, std::span<char> to) const;

 private:
  friend class MappedFile;

  std::string name_;  // it had, for errors
  std::string next_;  // what these tell to try, in scratch_folder()
  std::size_t size_ = 0;
  Descriptor descriptor_;
};

/// Makes a folder and those above it, where there are none. Throws Error as check_writable() does.
void make_folder(const std::filesystem::path& folder);

/// What make_folder() would refuse, before anything costly is done; makes nothing. Throws Error
/// with the folder and the reason: bad_data when it cannot be made, is a file or cannot be written
/// into, no_space when the disk is full.
void check_writable(const std::filesystem::path& folder);

/// Flushes a folder's entries (the names of new and renamed files) to disk.
void sync_folder(const std::filesystem::path& folder);

}  // namespace quire
