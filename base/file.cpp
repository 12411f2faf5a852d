#include "base/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/nearest.h"

namespace quire {
namespace {

/// `next`: what to try, where it is not what helps with any file on a full disk.
[[noreturn]] void throw_errno(const std::string& what, int error, const std::string& next = {}) {
  // EFBIG: the limit on a file's size, of the file system or of this process.
  const bool full = error == ENOSPC || error == EDQUOT || error == EFBIG;
  const bool space = full || error == ENOMEM;
  throw Error(space ? Fault::no_space : Fault::bad_data, what, {std::strerror(error)},
              !next.empty() ? next
              : full
                  ? "free some space or write to another disk; what was there before is untouched"
                  : "");
}

/// With the file of the folder that may have been meant.
[[noreturn]] void throw_not_opened(const std::filesystem::path& path, int error) {
  const std::string what = "cannot open " + path.string();
  std::vector<std::string> names;
  std::error_code ignored;
  if (error == ENOENT) {
    const std::filesystem::path folder = path.has_parent_path() ? path.parent_path() : ".";
    for (const auto& entry : std::filesystem::directory_iterator(folder, ignored)) {
      if (entry.is_regular_file(ignored)) names.push_back(entry.path().filename().string());
    }
  }
  std::sort(names.begin(), names.end());
  const std::string near = nearest(path.filename().string(), names);
  if (near.empty()) throw_errno(what, error);
  throw Error(Fault::bad_data, what,
              {std::strerror(error), "did you mean " + (path.parent_path() / near).string() + "?"});
}

[[noreturn]] void refuse_folder(const char* what, const std::filesystem::path& folder, int error,
                                const std::string& where = "") {
  const bool full = error == ENOSPC || error == EDQUOT;
  throw Error(full ? Fault::no_space : Fault::bad_data,
              std::string("cannot ") + what + " the folder " + folder.string(),
              {where + (error == ENOTDIR ? "a file has that name" : std::strerror(error))},
              full ? "free some space, or another disk" : "another `output_dir`"_named);
}

/// `name` and `next`: as errors have them.
void write_all(int descriptor, std::string_view bytes, const std::string& name,
               const std::string& next = {}) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor, bytes.data(), bytes.size());
    if (written >= 0) {
      bytes.remove_prefix(written);
    } else if (errno != EINTR) {
      throw_errno("cannot write " + name, errno, next);
    }
  }
}

}  // namespace

Descriptor::~Descriptor() {
  if (number_ >= 0) ::close(number_);
}

int Descriptor::close() {
  return ::close(std::exchange(number_, -1));
}

MappedFile::MappedFile(const std::filesystem::path& path) : path_(path) {
  const Descriptor descriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (descriptor < 0) throw_not_opened(path, errno);
  struct stat status {};
  if (::fstat(descriptor, &status) != 0 || !S_ISREG(status.st_mode)) {
    throw Error(Fault::bad_data, "cannot read " + path.string(),
                {S_ISDIR(status.st_mode) ? "it is a folder" : "it is not a regular file"});
  }
  size_ = status.st_size;
  map(descriptor);
}

MappedFile::MappedFile(const ScratchFile& file) : path_(file.name_), size_(file.size_) {
  map(file.descriptor_);
}

void MappedFile::map(int descriptor) {
  if (size_ == 0) return;
  void* mapped = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, descriptor, 0);
  if (mapped == MAP_FAILED) throw_errno("cannot map " + path_.string(), errno);
  data_.reset(static_cast<const std::byte*>(mapped), [size = size_](const std::byte* data) {
    ::munmap(const_cast<std::byte*>(data), size);
  });
}

void MappedFile::let_go(std::size_t first, std::size_t last) const {
  // A page that is read brings those around it along, 64 KiB on Linux.
  constexpr std::size_t kAround = 1 << 18;
  const std::size_t page = ::sysconf(_SC_PAGESIZE);
  first -= std::min(first, kAround);
  first -= first % page;
  last -= last % page;
  if (last <= first) return;
  ::madvise(const_cast<std::byte*>(data_.get()) + first, last - first, MADV_DONTNEED);
}

void MappedFile::let_go(std::string_view part) const {
  if (part.empty()) return;
  const std::size_t first = part.data() - text().data();
  let_go(first, first + part.size());
}

std::string read_file(const std::filesystem::path& path) {
  const MappedFile file(path);
  return std::string(file.text());
}

AtomicFile::AtomicFile(std::filesystem::path path)
    : path_(std::move(path)),
      temporary_(path_.string() + ".tmp-" + std::to_string(::getpid())),
      descriptor_(::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666)) {
  if (descriptor_ < 0) fail("create");
}

AtomicFile::~AtomicFile() {
  if (!committed_) ::unlink(temporary_.c_str());
}

void AtomicFile::fail(const char* action) {
  const int error = errno;
  throw_errno(std::string("cannot ") + action + " " + path_.string(), error);
}

void AtomicFile::flush() {
  write_all(descriptor_, pending_, path_.string());
  pending_.clear();
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  write(std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
}

void AtomicFile::write(std::string_view text) {
  constexpr std::size_t kGather = 1 << 20;
  if (pending_.size() + text.size() > kGather) flush();
  if (text.size() > kGather) {  // large data goes straight out, without a copy
    write_all(descriptor_, text, path_.string());
  } else {
    pending_ += text;
  }
}

void AtomicFile::reserve(std::size_t size) {
  // File systems that cannot give room ahead of time say so; there the size alone is set.
  const auto length = static_cast<off_t>(size);
  if (size > 0 && ::fallocate(descriptor_, 0, 0, length) != 0) {
    if (errno != EOPNOTSUPP) fail("write");
    if (::ftruncate(descriptor_, length) != 0) fail("write");
  }
}

void AtomicFile::write_at(std::size_t offset, std::span<const std::byte> bytes) const {
#if defined(__linux__)
  const auto begin = static_cast<off_t>(offset), size = static_cast<off_t>(bytes.size());
#endif
  while (!bytes.empty()) {
    const ssize_t written =
        ::pwrite(descriptor_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (written >= 0) {
      bytes = bytes.subspan(static_cast<std::size_t>(written));
      offset += static_cast<std::size_t>(written);
    } else if (errno != EINTR) {
      throw_errno("cannot write " + path_.string(), errno);
    }
  }
#if defined(__linux__)
  // The disk begins now, not when commit() waits for all of it: a hint, whose failure commit() tells.
  ::sync_file_range(descriptor_, begin, size, SYNC_FILE_RANGE_WRITE);
#endif
}

void AtomicFile::commit() {
  flush();
  if (::fsync(descriptor_) != 0) fail("flush");
  if (descriptor_.close() != 0) fail("close");
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) fail("replace");
  committed_ = true;
  sync_folder(path_.parent_path());
}

void write_file(const std::filesystem::path& path, std::string_view text) {
  AtomicFile file(path);
  file.write(text);
  file.commit();
}

AppendFile::AppendFile(std::filesystem::path path)
    : path_(std::move(path)),
      descriptor_(::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666)) {
  if (descriptor_ < 0) throw_errno("cannot write " + path_.string(), errno);
}

void AppendFile::write(std::string_view text) {
  write_all(descriptor_, text, path_.string());
}

std::filesystem::path scratch_folder() {
  const char* asked = std::getenv("TMPDIR");
  if (asked != nullptr && *asked != '\0') return asked;
  return ::access("/var/tmp", W_OK | X_OK) == 0 ? "/var/tmp" : "/tmp";
}

ScratchFile::ScratchFile(const std::filesystem::path& folder)
    : name_(((folder.empty() ? scratch_folder() : folder) / "scratch-XXXXXX").string()),
      next_(folder.empty() ? "TMPDIR=FOLDER, where there is room for such files" : ""),
      descriptor_(::mkostemp(name_.data(), O_CLOEXEC)) {
  if (descriptor_ < 0) {
    const std::filesystem::path in = std::filesystem::path(name_).parent_path();
    throw_errno("cannot create a file in " + in.string(), errno, next_);
  }
  ::unlink(name_.c_str());
}

void ScratchFile::write(std::string_view bytes) {
  write_all(descriptor_, bytes, name_, next_);
  size_ += bytes.size();
}

void ScratchFile::read(std::size_t offset, std::span<char> to) const {
  while (!to.empty()) {
    const ssize_t got = ::pread(descriptor_, to.data(), to.size(), offset);
    if (got > 0) {
      offset += got;
      to = to.subspan(got);
    } else if (got == 0 || errno != EINTR) {
      throw_errno("cannot read " + name_, got == 0 ? EIO : errno);
    }
  }
}

void check_writable(const std::filesystem::path& folder) {
  // What is looked at is the folder, or the nearest one above it that is there.
  std::filesystem::path there = folder.lexically_normal();
  if (!there.has_filename()) there = there.parent_path();  // of "out/"
  const auto name = [&] { return there.empty() ? "." : there.c_str(); };
  struct stat status {};
  bool whole = true;
  for (; ::stat(name(), &status) != 0; whole = false) {
    // Below a file: the trouble is that file.
    if (errno != ENOENT && errno != ENOTDIR) refuse_folder("create", folder, errno);
    there = there.parent_path();
  }
  const std::string where = whole ? "" : std::string(name()) + ": ";
  if (!S_ISDIR(status.st_mode)) refuse_folder("create", folder, ENOTDIR, where);
  if (::faccessat(AT_FDCWD, name(), W_OK | X_OK, AT_EACCESS) == 0) return;
  refuse_folder(whole ? "write into" : "create", folder, errno, where);
}

void make_folder(const std::filesystem::path& folder) {
  check_writable(folder);
  std::error_code failed;
  std::filesystem::create_directories(folder, failed);
  if (failed && !std::filesystem::is_directory(folder)) {
    refuse_folder("create", folder, failed.value());
  }
}

void sync_folder(const std::filesystem::path& folder) {
  const std::filesystem::path target = folder.empty() ? "." : folder;
  const Descriptor descriptor(::open(target.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (descriptor < 0) throw_errno("cannot open folder " + target.string(), errno);
  // Some file systems cannot flush a folder and say EINVAL:
  // the rename is as safe as they can make it.
  if (::fsync(descriptor) != 0 && errno != EINVAL) {
    throw_errno("cannot flush folder " + target.string(), errno);
  }
}

}  // namespace quire
