#include "corpus/stop_words.h"

#include <sstream>

#include "base/error.h"
#include "base/file.h"
#include "base/text.h"
#include "corpus/characters.h"
#include "corpus/encoding.h"
#include "corpus/input_file.h"

namespace quire {

StopWords StopWords::english() {
  StopWords stop;
  std::istringstream words(english_stop_words);
  for (std::string word; words >> word;) stop.words_.insert(characters::from_utf8(word));
  return stop;
}

StopWords StopWords::from_file(const std::filesystem::path& path) {
  const MappedFile file(path);
  const std::string text = with_newlines(without_byte_order_mark(file.text(), path));
  if (!is_utf8(text)) {
    throw Error(Fault::bad_data, path.string() + " is not UTF-8",
                {"a list of stop words has one word a line"},
                "iconv -f ISO-8859-1 -t UTF-8 " + path.string() + " > stopwords.txt");
  }
  const std::u32string all = characters::to_lower(characters::from_utf8(text));
  StopWords stop;
  for (std::size_t at = 0; at < all.size();) {
    const std::size_t end = std::min(all.find(U'\n', at), all.size());
    const auto word = characters::trimmed(std::u32string_view(all).substr(at, end - at));
    if (!word.empty()) stop.words_.emplace(word);
    at = end + 1;
  }
  if (stop.words_.empty()) {
    throw Error(Fault::bad_data, path.string() + " holds no stop words",
                {"a list of stop words has one word a line"});
  }
  return stop;
}

}  // namespace quire
