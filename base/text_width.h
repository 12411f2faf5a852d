// How wide a text is, and tables of texts.
#pragma once

#include <limits>
#include <string>
#include <string_view>
#include <vector>

namespace quire {

/// Columns that the text takes on a terminal: 2 for East Asian wide characters and emoji, 0 for
/// combining marks and for the codes of bold letters.
int display_width(std::string_view utf8);
/// At most `columns` wide, with "…" at the end where something was cut.
std::string cut_to_width(std::string_view utf8, int columns);

/// A table with aligned columns. The first row is the heading; columns whose cells are numbers are
/// aligned on the right. Each line begins with two spaces. A table with more than so many columns of
/// text is cut into several below each other, each of which begins with the first column.
std::string format_table(const std::vector<std::vector<std::string>>& rows,
                         int columns = std::numeric_limits<int>::max());

/// The words of a text, in lines of at most so many columns that begin with `indent`. Ends without a
/// line end; a word that is longer stands in a line of its own.
std::string flow(std::string_view text, int columns, std::string_view indent = {});

}  // namespace quire
