#include "hub/partial_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/error.h"

namespace quire {

namespace fs = std::filesystem;

PartialFile::PartialFile(fs::path name)
    : name_(std::move(name)),
      incomplete_(name_.string() + ".incomplete"),
      descriptor_(::open(incomplete_.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0666)) {
  struct stat status {};
  if (descriptor_ < 0 || ::fstat(descriptor_, &status) != 0) fail("open");
  size_ = static_cast<std::uint64_t>(status.st_size);
}

void PartialFile::fail(const char* action) const {
  const int why = errno;
  const bool full = why == ENOSPC || why == EDQUOT || why == EFBIG;
  throw Error(full ? Fault::no_space : Fault::bad_data,
              std::string("cannot ") + action + " " + incomplete_.string(), {std::strerror(why)},
              full ? "the same again, where there is room" : "");
}

void PartialFile::append(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t count =
        ::pwrite(descriptor_, bytes.data(), bytes.size(), static_cast<off_t>(size_));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) fail("write");
    size_ += static_cast<std::uint64_t>(count);
    bytes.remove_prefix(static_cast<std::size_t>(count));
  }
}

void PartialFile::clear() {
  if (::ftruncate(descriptor_, 0) != 0) fail("empty");
  size_ = 0;
}

void PartialFile::discard() {
  std::error_code ignored;
  fs::remove(incomplete_, ignored);
}

void PartialFile::commit() {
  if (::fsync(descriptor_) != 0) fail("write");
  std::error_code trouble;
  fs::rename(incomplete_, name_, trouble);
  if (trouble) {
    errno = trouble.value();
    fail("rename");
  }
  sync_folder(name_.parent_path());
}

FileLock::FileLock(const fs::path& file)
    : descriptor_((make_folder(file.parent_path()),
                   ::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666))) {
  if (descriptor_ < 0) {
    throw Error(Fault::bad_data, "cannot open " + file.string(), {std::strerror(errno)});
  }
}

bool FileLock::try_lock() {
  return ::flock(descriptor_, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK;
}

}  // namespace quire
