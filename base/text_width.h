// How wide a text is.
#pragma once

#include <string>
#include <string_view>

namespace quire {

/// Columns that the text takes on a terminal: 2 for East Asian wide characters and emoji, 0 for
/// combining marks and for the codes of bold letters.
int display_width(std::string_view utf8);
/// At most `columns` wide, with "…" at the end where something was cut.
std::string cut_to_width(std::string_view utf8, int columns);

/// The words of a text, in lines of at most so many columns that begin with `indent`. Ends without a
/// line end; a word that is longer stands in a line of its own.
std::string flow(std::string_view text, int columns, std::string_view indent = {});

}  // namespace quire
