// GPT-2's printable names for the 256 bytes: vocabulary files are text, so each byte is written as
// one character. Bytes that are printable in Latin-1 stand for themselves; the other 68 become
// U+0100, U+0101, … in order (space becomes U+0120 'Ġ', newline U+010A 'Ċ').
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace quire {

/// The bytes in the order of their characters: GPT-2's ids 0 to 255.
std::array<std::uint8_t, 256> bytes_in_alphabet_order();

/// The printable form of bytes.
std::string printable(std::string_view bytes);

/// Appends the bytes of a printable form. False (and nothing appended) when it has a character that
/// is not in the alphabet.
bool append_bytes_of_printable(std::string_view text, std::string& to);

}  // namespace quire
