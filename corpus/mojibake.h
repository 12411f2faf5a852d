// UTF-8 that was once read as Latin-1 or Windows-1252: "Ã©" for "é", "â€™" for "’".
//
// Read wrongly, each byte of a character became a character of its own. So a run of characters is
// suspected when the bytes that they are in Windows-1252 (or Latin-1) are UTF-8 again. Some such
// runs are good text: "CAFÉ»" ends in the bytes of "ɻ", "café »" with a no-break space in those of
// "頻". Hence a run of one character counts only where it would be one that is often met: Western
// letters and signs (U+0080 to U+00FF), punctuation and signs (U+2000 to U+27FF), a byte-order
// mark, an emoji; and one that ends in what may end a word (”’…–—»›) only before a small letter:
// "coÃ»t". Other characters count in runs of two.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace quire {

struct Mojibake {
  std::size_t begin = 0, end = 0;  ///< bytes of the text
  std::string meant;               ///< what they probably were
};

/// The first suspected run at or after byte `from`. The text may hold bytes that are not UTF-8.
std::optional<Mojibake> find_mojibake(std::string_view text, std::size_t from = 0);

/// The text with what the runs were meant to be, also where that happened several times over.
std::string repair_mojibake(std::string text);

}  // namespace quire
