#include "corpus/encoding.h"

#include <fmt/format.h>
#include <unicode/ucnv.h>
#include <unicode/ustring.h>
#include <unicode/utf16.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "base/error.h"
#include "base/foreign_file.h"
#include "base/nearest.h"
#include "corpus/file_kind.h"

namespace quire {
namespace {

constexpr std::array kUsualNames = {
    "utf-8",     "cp1252", "latin-1", "iso-8859-15", "macintosh", "utf-16",      "utf-16le",
    "utf-16be",  "utf-32", "cp437",   "cp850",       "cp1250",    "cp1251",      "koi8-r",
    "shift_jis", "euc-jp", "gb18030", "big5",        "euc-kr",    "windows-1252"};

std::shared_ptr<UConverter> open(const std::string& encoding) {
  UErrorCode status = U_ZERO_ERROR;
  std::shared_ptr<UConverter> converter(ucnv_open(encoding.c_str(), &status), ucnv_close);
  if (U_SUCCESS(status)) return converter;
  const std::vector<std::string> names(kUsualNames.begin(), kUsualNames.end());
  const std::string close = nearest(encoding, names);
  throw Error(Fault::usage, "there is no encoding '" + encoding + "'",
              {fmt::format("known are, among others, {}", fmt::join(names, ", "))},
              "`encoding` "_named + (close.empty() ? "cp1252" : close));
}

/// Whether all groups of four bytes, two at least, are numbers of characters; `order` is that of
/// their bytes, the lowest first. Four letters of ASCII are a number far beyond the last.
bool is_utf32(std::string_view bytes, const std::array<std::size_t, 4>& order) {
  if (bytes.size() < 8 || bytes.size() % 4 != 0) return false;
  for (std::size_t at = 0; at < bytes.size(); at += 4) {
    const auto byte = [&](std::size_t i) {
      return static_cast<std::uint32_t>(static_cast<unsigned char>(bytes[at + order[i]]));
    };
    const std::uint32_t number = byte(0) | byte(1) << 8 | byte(2) << 16 | byte(3) << 24;
    if (number == 0 || number > 0x10FFFF || (number >= 0xD800 && number < 0xE000)) return false;
  }
  return true;
}

/// Files that come where texts were meant: what a download left, workbooks, models.
void refuse_foreign(std::string_view text, const std::filesystem::path& path) {
  std::optional<ForeignFile> foreign = recognise_foreign(text.substr(0, 1024));
  if (!foreign) return;
  using Kind = ForeignFile::Kind;
  // Pages are texts, too, but no tables.
  if (foreign->kind == Kind::page && (!is_read(path) || kind_of(path) == FileKind::text)) return;
  if (foreign->kind == Kind::archive) {
    foreign->what = "it is a zip archive, as a spreadsheet's workbook is";
    foreign->next = "unpack it, or save the sheet as .csv";
  }
  throw Error(Fault::bad_data, path.string() + " is no text", {foreign->what}, foreign->next);
}

}  // namespace

bool names_utf8(const std::string& encoding) {
  return encoding.empty() || ucnv_compareNames(encoding.c_str(), "utf-8") == 0 ||
         ucnv_compareNames(encoding.c_str(), "utf-8-sig") == 0;
}

void check_encoding(const std::string& encoding) {
  if (!names_utf8(encoding)) open(encoding);
}

Utf8Converter::Utf8Converter(std::string encoding, std::string_view beginning,
                             std::filesystem::path path)
    : encoding_(std::move(encoding)), path_(std::move(path)) {
  std::string name = encoding_;
  if (ucnv_compareNames(name.c_str(), "utf-16") == 0) {  // ICU takes big-endian without a mark
    if (const std::string_view order = wide_without_mark(beginning); order.starts_with("utf-16")) {
      name = order;
    }
  }
  from_ = open(name);
  UErrorCode status = U_ZERO_ERROR;
  ucnv_setToUCallBack(from_.get(), UCNV_TO_U_CALLBACK_STOP, nullptr, nullptr, nullptr, &status);
}

void Utf8Converter::convert(std::string_view bytes, bool last, std::string& text) {
  const char* at = bytes.data();
  const char* const end = at + bytes.size();
  for (bool more = true; more;) {
    char16_t* to = units_.data() + kept_;
    UErrorCode status = U_ZERO_ERROR;
    ucnv_toUnicode(from_.get(), &to, units_.data() + units_.size(), &at, end, nullptr,
                   /*flush=*/last, &status);
    more = status == U_BUFFER_OVERFLOW_ERROR;
    std::size_t count = to - units_.data();
    kept_ = (more || !last) && count > 0 && U16_IS_LEAD(units_[count - 1]) ? 1 : 0;
    count -= kept_;
    append(count, text);
    if (kept_ == 1) units_[0] = units_[count];
    if (!more && U_FAILURE(status)) fail();
  }
}

void Utf8Converter::append(std::size_t count, std::string& text) {
  std::array<char, 3 * 4096> bytes;
  std::int32_t length = 0;
  UErrorCode status = U_ZERO_ERROR;
  u_strToUTF8(bytes.data(), static_cast<std::int32_t>(bytes.size()), &length, units_.data(),
              static_cast<std::int32_t>(count), &status);
  if (U_FAILURE(status)) throw Error(Fault::internal, "ICU made UTF-16 that is none");
  text.append(bytes.data(), static_cast<std::size_t>(length));
  line_ += std::count(bytes.data(), bytes.data() + length, '\n');
}

void Utf8Converter::fail() const {
  std::array<char, 16> bytes;
  auto count = static_cast<std::int8_t>(bytes.size());
  UErrorCode status = U_ZERO_ERROR;
  ucnv_getInvalidChars(from_.get(), bytes.data(), &count, &status);
  std::string listed;
  for (std::int8_t i = 0; U_SUCCESS(status) && i < count; ++i) {
    listed += fmt::format(" {:02X}", static_cast<unsigned char>(bytes[i]));
  }
  throw Error(Fault::bad_data,
              path_.string() + " line " + std::to_string(line_) + " is not " + encoding_,
              {"the bytes" + listed + " are no character of it"}, "another `encoding`"_named);
}

std::string to_utf8(std::string_view bytes, const std::string& encoding,
                    const std::filesystem::path& path) {
  if (names_utf8(encoding)) return std::string(bytes);
  Utf8Converter converter(encoding, bytes, path);
  std::string text;
  text.reserve(bytes.size());
  converter.add(bytes, text);
  converter.finish(text);
  return text;
}

const char* wide_without_mark(std::string_view bytes) {
  constexpr std::size_t kLooked = 4096;
  if (is_utf32(bytes.substr(0, kLooked), {0, 1, 2, 3})) return "utf-32le";
  if (is_utf32(bytes.substr(0, kLooked), {3, 2, 1, 0})) return "utf-32be";
  const std::size_t pairs = std::min(bytes.size(), kLooked) / 2;
  if (pairs < 2 || bytes.starts_with("\xFF\xFE") || bytes.starts_with("\xFE\xFF")) return "";
  std::array<std::size_t, 2> zeros{};
  for (std::size_t i = 0; i < 2 * pairs; ++i) zeros[i % 2] += bytes[i] == '\0';
  // Seven of ten: what is no Latin letter has no zero byte. In text that is not UTF-16 zeros are
  // rare, and as often at even places as at odd ones.
  const auto most = [&](std::size_t count) { return 10 * count >= 7 * pairs; };
  const auto few = [&](std::size_t count) { return 10 * count <= pairs; };
  if (most(zeros[1]) && few(zeros[0])) return "utf-16le";
  if (most(zeros[0]) && few(zeros[1])) return "utf-16be";
  return "";
}

std::string_view without_byte_order_mark(std::string_view text, const std::filesystem::path& path) {
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  refuse_foreign(text, path);
  using namespace std::string_view_literals;
  const bool wider = text.starts_with("\xFF\xFE\0\0"sv) || text.starts_with("\0\0\xFE\xFF"sv);
  const bool marked = wider || text.starts_with("\xFF\xFE") || text.starts_with("\xFE\xFF");
  const std::string encoding = wider ? "utf-32" : marked ? "utf-16" : wide_without_mark(text);
  if (encoding.empty()) return text;
  const bool four = encoding.starts_with("utf-32");
  std::vector<std::string> details;
  if (!marked) {
    details.push_back(four ? "it has no byte-order mark, and every four bytes are a character"
                           : "it has no byte-order mark, and every second byte is zero");
  }
  throw Error(Fault::bad_data,
              path.string() + " is " + (four ? "UTF-32" : "UTF-16") + ", Quire reads UTF-8",
              details,
              "`encoding` "_named + encoding + ", or iconv -f " + encoding + " -t utf-8 " +
                  path.string() + " > utf8" + path.extension().string());
}

}  // namespace quire
