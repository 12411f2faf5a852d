// gzip and zstd, through zlib and libzstd, piece by piece.
//
// Both are optional when Quire is built: without one, its files are refused
// with the command that unpacks them.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace quire {

enum class Compression { none, gzip, zstd };

/// Gets some text; it is there until the call ends.
using TakeText = std::function<void(std::string_view)>;

/// What was packed: all members or frames of it, one after the other, each with its own checksum.
/// Memory does not grow with either side. Errors call the file `name`. Throws Error(bad_data) for
/// what is damaged or ends too soon, and Error(device) where the library was not built in.
class Unpacker {
 public:
  Unpacker(Compression compression, const std::string& name);
  Unpacker(Unpacker&&) noexcept;
  ~Unpacker();

  /// The next bytes of what is packed; `take` gets what they unpack to.
  void add(std::string_view packed, const TakeText& take);
  /// There are no more.
  void finish();

  class Format;  ///< one of the two

 private:
  std::unique_ptr<Format> format_;  // none: nothing is packed
};

/// The same of all of it at once.
std::string decompress(std::string_view packed, Compression compression, const std::string& name);

}  // namespace quire
