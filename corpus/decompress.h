// gzip and zstd, through zlib and libzstd, piece by piece.
//
// Both are optional when Quire is built: without one, its files are refused
// with the command that unpacks them.
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace quire {

enum class Compression { none, gzip, zstd };

/// Gets some text; it is there until the call ends.
using TakeText = std::function<void(std::string_view)>;

/// What was packed: all members or frames of it, one after the other, each with its own checksum.
/// Memory does not grow with either side. Errors call the file `name`. Throws Error(bad_data) for
/// what is damaged or ends too soon, and Error(device) where the library was not built in.
class Unpacker {
 public:
  Unpacker(Compression compression, std::string name);
  Unpacker(const Unpacker&) = delete;  // its step knows where it is
  Unpacker& operator=(const Unpacker&) = delete;

  /// The next bytes of what is packed; `take` gets what they unpack to.
  void add(std::string_view packed, const TakeText& take);
  /// There are no more.
  void finish() const;

 private:
  /// One call of the library: takes what it read off the front of `packed`, and returns how many
  /// bytes it wrote. `ended`: there is nothing behind the end of a member or frame.
  using Step =
      std::function<std::size_t(std::string_view& packed, std::span<char> to, bool& ended)>;
  Step gzip() const;
  Step zstd() const;
  [[noreturn]] void fail(const std::string& why) const;

  std::string name_;
  const char* check_ = "";  // the command that says what is wrong with a file
  Step step_;               // none: nothing is packed
  std::vector<char> text_;
  bool ended_ = false;
};

}  // namespace quire
