// HTML's entities: "&amp;" and "&#8217;" as the characters they stand for.
#pragma once

#include <string>
#include <string_view>

namespace quire {

/// A name of HTML 5 without "&", and what it stands for in UTF-8. Most end in ";", those that old
/// pages write without have an entry for each form.
struct HtmlEntity {
  const char* name;
  const char* text;
};
extern const HtmlEntity html_entities[2231];  ///< in the order of their bytes

/// Reads the entities in a text as browsers do: without ";" as well where HTML 5 has such a name,
/// numbers of Windows-1252 as its characters; what is none stays as it is.
std::u32string unescape_html(std::u32string_view text);

}  // namespace quire
