#include "corpus/input_file.h"

#include <algorithm>

#include "corpus/encoding.h"
#include "corpus/file_kind.h"

namespace quire {
namespace {

constexpr std::string_view kMark = "\xEF\xBB\xBF";
constexpr std::size_t kPiece = 1 << 18;  // bytes of a file that are unpacked or converted at once

// What comes in some encoding, which its beginning says, goes into a spill as UTF-8.
class ToUtf8 {
 public:
  ToUtf8(const std::string& encoding, const std::filesystem::path& path, ByteSpill& to)
      : encoding_(encoding), path_(path), to_(to) {}

  void add(std::string_view bytes) {
    if (!begun_) {
      constexpr std::size_t kBeginning = 4096;  // as Utf8Converter wants it
      beginning_ += bytes;
      if (beginning_.size() >= kBeginning) begin();
    } else {
      put(bytes);
    }
  }
  void finish() {
    if (!begun_) begin();
    if (!converter_) return;
    converter_->finish(converted_);
    to_.add(converted_);
  }

 private:
  void begin() {
    begun_ = true;
    if (!names_utf8(encoding_) && !beginning_.starts_with(kMark)) {
      converter_.emplace(encoding_, beginning_, path_);
    }
    put(beginning_);
  }
  void put(std::string_view bytes) {
    if (!converter_) {
      to_.add(bytes);
      return;
    }
    converter_->add(bytes, converted_);
    to_.add(converted_);
    converted_.clear();
  }

  const std::string& encoding_;
  const std::filesystem::path& path_;
  ByteSpill& to_;
  std::string beginning_, converted_;
  bool begun_ = false;
  std::optional<Utf8Converter> converter_;  // none: it is in UTF-8
};

}  // namespace

std::string with_newlines(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  while (true) {
    const std::size_t end = std::min(text.find('\r'), text.size());
    result += text.substr(0, end);
    if (end == text.size()) return result;
    result += '\n';
    const bool pair = end + 1 < text.size() && text[end + 1] == '\n';
    text.remove_prefix(end + (pair ? 2 : 1));
  }
}

InputFile::InputFile(const std::filesystem::path& path, const TextFormat& format) : file_(path) {
  const Compression compression = compression_of(path);
  const bool utf8 = names_utf8(format.encoding) || file_.text().starts_with(kMark);
  text_ = file_.text();
  if (compression == Compression::none && utf8) return;
  made_.emplace();
  Unpacker unpacker(compression, path.string());
  ToUtf8 to_utf8(format.encoding, path, *made_);
  const TakeText take = [&](std::string_view part) { to_utf8.add(part); };
  for (std::string_view rest = text_; !rest.empty();) {
    const std::string_view part = rest.substr(0, kPiece);
    rest.remove_prefix(part.size());
    unpacker.add(part, take);
    file_.let_go(part);
  }
  unpacker.finish();
  to_utf8.finish();
  text_ = made_->map();
}

void InputFile::let_go(std::string_view part) const {
  if (made_) {
    made_->let_go(part);
  } else {
    file_.let_go(part);
  }
}

bool TextBlocks::next() {
  constexpr std::size_t kBlock = 1 << 22;
  file_.let_go(raw_);
  std::size_t end = rest_.size();
  if (end > kBlock) end = std::min(rest_.find_first_of("\r\n", kBlock), end);
  if (end < rest_.size()) end += rest_.substr(end).starts_with("\r\n") ? 2 : 1;
  raw_ = rest_.substr(0, end);
  rest_.remove_prefix(end);
  block_ = raw_;
  if (raw_.find('\r') != std::string_view::npos) block_ = converted_ = with_newlines(raw_);
  return !raw_.empty();
}

}  // namespace quire
