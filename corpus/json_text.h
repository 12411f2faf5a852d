// JSON as text: what a parser would not take, or would not give back as it was written.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace quire {

/// A text that a strict parser takes, and what was changed for it.
struct StrictJson {
  std::string text;             ///< empty: nothing was changed
  bool lone_surrogate = false;  ///< "\ud83d" without its other half became "\ufffd"
  bool not_a_number = false;    ///< NaN, Infinity or -Infinity became null
};
/// NaN, Infinity and -Infinity outside of strings become null. What is not JSON stays as it is.
StrictJson strict_json(std::string_view text);

/// Of a text that is a valid object but for what strict_json() changes: the value of a field as it
/// is written, of the last where several have the name; "" where none has.
/// `count` gets how many do.
std::string_view written_member(std::string_view object, const std::string& name,
                                std::size_t* count = nullptr);
/// The entries of a valid array as they are written.
std::vector<std::string_view> written_entries(std::string_view array);

}  // namespace quire
