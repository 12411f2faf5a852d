#include "base/foreign_file.h"

#include <algorithm>
#include <cctype>

namespace quire {
namespace {

/// In lower case, without white space before it.
std::string as_markup(std::string_view beginning) {
  const std::size_t first = beginning.find_first_not_of(" \t\r\n\xEF\xBB\xBF");
  if (first == std::string_view::npos) return {};
  std::string text(beginning.substr(first, 20));
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

/// "oid sha256:… size 548105171" of a pointer: the size of the file that it stands for.
std::string size_in_pointer(std::string_view pointer) {
  const std::size_t at = pointer.find("\nsize ");
  if (at == std::string_view::npos) return "";
  std::string digits;
  for (std::size_t i = at + 6; i < pointer.size() && pointer[i] >= '0' && pointer[i] <= '9'; ++i) {
    digits += pointer[i];
  }
  return digits.empty() ? "" : " of " + digits + " bytes";
}

}  // namespace

std::optional<ForeignFile> recognise_foreign(std::string_view beginning) {
  using namespace std::string_view_literals;
  using Kind = ForeignFile::Kind;
  const auto begins = [&](std::string_view mark) { return beginning.starts_with(mark); };
  if (begins("version https://git-lfs")) {
    return ForeignFile{
        "it is a Git LFS pointer, not the file" + size_in_pointer(beginning) + " itself",
        "git lfs pull in the folder that was cloned", Kind::pointer};
  }
  const std::string markup = as_markup(beginning);
  if (markup.starts_with("<!doctype html") || markup.starts_with("<html")) {
    return ForeignFile{"it is a web page, not the file",
                       "download the file itself: on the Hub its address has /resolve/, not /blob/",
                       Kind::page};
  }
  if (begins("\x1F\x8B")) {
    return ForeignFile{"it is packed with gzip", "unpack it: gzip -d (with .gz as its ending)",
                       Kind::packed};
  }
  if (begins("\x28\xB5\x2F\xFD")) {
    return ForeignFile{"it is packed with Zstandard", "zstd -d", Kind::packed};
  }
  if (begins("\xFD\x37zXZ")) return ForeignFile{"it is packed with xz", "xz -d", Kind::packed};
  // Its version follows, a small number in four bytes: a text may begin with the word.
  const bool versioned = beginning.size() >= 8 && beginning.substr(5, 3) == "\0\0\0"sv;
  if (begins("GGUF") && (versioned || beginning.size() == 4)) {
    return ForeignFile{"it is a GGUF file, which is not read yet",
                       "the model that it was made from, in safetensors", Kind::model};
  }
  if (begins("PK\x03\x04") || begins("\x80\x02") || begins("\x80\x04")) {
    return ForeignFile{"it is a PyTorch checkpoint or a zip archive",
                       "convert it with transformers' save_pretrained()",
                       begins("PK") ? Kind::archive : Kind::model};
  }
  if (begins("\x89HDF\r\n")) {
    return ForeignFile{"it is an HDF5 file, as Keras writes them",
                       "convert it with transformers' save_pretrained()", Kind::model};
  }
  return std::nullopt;
}

Error unusable_file(const std::string& message, std::string_view text, const std::string& why) {
  const auto foreign = recognise_foreign(text.substr(0, 1024));
  return {Fault::bad_data, message, {foreign ? foreign->what : why}, foreign ? foreign->next : ""};
}

}  // namespace quire
