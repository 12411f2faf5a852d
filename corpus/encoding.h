// Text in other encodings than UTF-8, by ICU's converters.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

struct UConverter;  // of ICU

namespace quire {

/// Whether it is a name of UTF-8: "utf-8", "UTF8", "utf-8-sig", or none.
bool names_utf8(const std::string& encoding);

/// Throws Error(usage) with the nearest name unless ICU has a converter of that name: cp1252,
/// latin-1, utf-16le, shift_jis, …; case, '-' and '_' do not count.
void check_encoding(const std::string& encoding);

/// Text in another encoding than UTF-8 that comes piece by piece, pieces ending anywhere.
class Utf8Converter {
 public:
  /// `beginning`: the first 4096 bytes, or all there are, which tell the byte order of "utf-16".
  /// Throws Error(usage) as check_encoding() does.
  Utf8Converter(std::string encoding, std::string_view beginning, std::filesystem::path path);
  /// Appends to `text` what the next bytes are in UTF-8. Throws Error(bad_data) naming file
  /// and line for bytes that are no character of the encoding.
  void add(std::string_view bytes, std::string& text) { convert(bytes, /*last=*/false, text); }
  /// There are no more bytes. Throws as add() does for half a character.
  void finish(std::string& text) { convert({}, /*last=*/true, text); }

 private:
  void convert(std::string_view bytes, bool last, std::string& text);
  void append(std::size_t count, std::string& text);
  [[noreturn]] void fail() const;

  std::string encoding_;
  std::filesystem::path path_;
  std::shared_ptr<UConverter> from_;
  std::vector<char16_t> units_ = std::vector<char16_t>(4096);
  std::size_t kept_ = 0;   // 1: the first of `units_` is half of a pair
  std::int64_t line_ = 1;  // of the file, where the next character is
};

/// The bytes in UTF-8, a byte-order mark included. Throws Error(bad_data) naming file and line for
/// bytes that are no character of the encoding, Error(usage) as check_encoding() does.
std::string to_utf8(std::string_view bytes, const std::string& encoding,
                    const std::filesystem::path& path);

/// "utf-16le" or "utf-16be" for text whose every second byte is zero, as UTF-16 has Latin letters,
/// "utf-32le" or "utf-32be" where every four bytes are a character's number; "" for other text. A
/// mark at its beginning is not looked for.
const char* wide_without_mark(std::string_view bytes);

/// Drops a UTF-8 byte-order mark. Throws Error(bad_data) naming the file for UTF-16 and UTF-32,
/// with a mark or without, and for what is no text: a Git LFS pointer, something packed, a model,
/// a web page where the name says a table or JSON lines.
std::string_view without_byte_order_mark(std::string_view text, const std::filesystem::path& path);

}  // namespace quire
