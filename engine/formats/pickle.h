// Python's pickles, as far as checkpoints have them: numbers, texts, containers, and calls that are
// written down and never made.
//
// A pickle is a program for a stack machine. The opcodes are those of Python's pickletools,
// protocols 0 to 5.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace quire {

/// A value of a pickle. Others may be part of it, also more than once, and a list may hold itself.
struct Pickled {
  enum class Kind : std::uint8_t {
    none,
    boolean,     ///< `integer` is 0 or 1
    integer,     ///< of 64 bits; of larger ones `text` has the bytes, little-endian
    real,        ///< `real`
    text,        ///< `text`: UTF-8, or bytes
    list,        ///< `parts`; sets too
    tuple,       ///< `parts`
    dict,        ///< `parts`: key, value, key, value, …
    global,      ///< `text`: "torch._utils _rebuild_tensor_v2"
    call,        ///< `parts`: what is called, its arguments
    persistent,  ///< `parts`: the name of something outside the pickle
  };
  Kind kind = Kind::none;
  std::int64_t integer = 0;
  double real = 0.0;
  std::string_view text = {};  ///< inside the pickle
  std::vector<const Pickled*> parts = {};

  bool is(Kind wanted) const { return kind == wanted; }
  /// The value of a dict's last entry of that name; nullptr for all that is none.
  const Pickled* find(std::string_view key) const;
};

/// The value of one pickle.
class Pickle {
 public:
  /// Reads `bytes` from their beginning to the pickle's end, size() bytes. A global that `allowed`
  /// does not name, as "module name", is an error, also where nothing would call it. Throws
  /// Error(bad_data) whose details are `why`: "byte 17: …"; `what` is for the caller to say.
  Pickle(std::string_view bytes, std::span<const std::string_view> allowed,
         const std::string& what);

  const Pickled& value() const { return *value_; }
  const std::deque<Pickled>& values() const { return values_; }  ///< all there are in it
  std::size_t size() const { return size_; }

 private:
  std::deque<Pickled> values_;  // where all of them live, as they may be parts of each other
  const Pickled* value_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace quire
