#include "base/foreign_file.h"

#include "base/text.h"

namespace quire {
namespace {

constexpr const char* kTorch = "it is a PyTorch checkpoint or a zip archive";
constexpr const char* kNameAgain =
    "name it so that it ends with .bin or .pt, to open it as a model";
constexpr const char* kSaveAgain = "convert it with transformers' save_pretrained()";

/// In lower case, without white space before it.
std::string as_markup(std::string_view beginning) {
  const std::size_t first = beginning.find_first_not_of(" \t\r\n\xEF\xBB\xBF");
  if (first == std::string_view::npos) return {};
  return lower_ascii(beginning.substr(first, 20));
}

/// "oid sha256:… size 548105171" of a pointer: the size of the file that it stands for.
std::string size_in_pointer(std::string_view pointer) {
  const std::size_t at = pointer.find("\nsize ");
  if (at == std::string_view::npos) return "";
  const std::string_view rest = pointer.substr(at + 6);
  const std::string digits(rest.substr(0, rest.find_first_not_of("0123456789")));
  return digits.empty() ? "" : " of " + digits + " bytes";
}

/// What a first few bytes alone tell.
struct Mark {
  std::string_view bytes;
  const char *what, *next;
  ForeignFile::Kind kind;
};
constexpr Mark kMarks[] = {
    {"\x1F\x8B", "it is packed with gzip", "unpack it: gzip -d (with .gz as its ending)",
     ForeignFile::Kind::packed},
    {"\x28\xB5\x2F\xFD", "it is packed with Zstandard", "zstd -d", ForeignFile::Kind::packed},
    {"\xFD\x37zXZ", "it is packed with xz", "xz -d", ForeignFile::Kind::packed},
    {"PK\x03\x04", kTorch, kNameAgain, ForeignFile::Kind::archive},
    {"\x80\x02", kTorch, kNameAgain, ForeignFile::Kind::model},
    {"\x80\x04", kTorch, kNameAgain, ForeignFile::Kind::model},
    {"\x89HDF\r\n", "it is an HDF5 file, as Keras writes them", kSaveAgain,
     ForeignFile::Kind::model}};

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
  // Its version follows, a small number in four bytes: a text may begin with the word.
  const bool versioned = beginning.size() >= 8 && beginning.substr(5, 3) == "\0\0\0"sv;
  if (begins("GGUF") && (versioned || beginning.size() == 4)) {
    return ForeignFile{"it is a GGUF file",
                       "name it so that it ends with .gguf, to open it as a model", Kind::model};
  }
  for (const Mark& mark : kMarks) {
    if (begins(mark.bytes)) return ForeignFile{mark.what, mark.next, mark.kind};
  }
  return std::nullopt;
}

Error unusable_file(const std::string& message, std::string_view text, const std::string& why) {
  const auto foreign = recognise_foreign(text.substr(0, 1024));
  return {Fault::bad_data, message, {foreign ? foreign->what : why}, foreign ? foreign->next : ""};
}

}  // namespace quire
