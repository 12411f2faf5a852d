#include "kernels/cuda/algorithm_table.h"

#include <algorithm>
#include <charconv>
#include <string_view>
#include <system_error>

#include "base/cache_folder.h"
#include "base/file.h"
#include "base/hash.h"

namespace quire::cuda {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kTitle = "quire autotune table 1\n";
constexpr std::string_view kChecksum = "checksum ";
constexpr std::size_t kDigits = 16;

std::string text_of(const Algorithm& algorithm) {
  std::string text;
  for (const std::uint64_t word : algorithm) text += hash_text(word);
  return text;
}

/// False where the digits are not all there.
bool read_algorithm(std::string_view text, Algorithm& algorithm) {
  if (text.size() != kDigits * algorithm.size()) return false;
  for (std::uint64_t& word : algorithm) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + kDigits, word, 16);
    if (error != std::errc() || end != text.data() + kDigits) return false;
    text.remove_prefix(kDigits);
  }
  return true;
}

/// Takes the first line from `text`, without its end; all of it where that is missing.
std::string_view take_line(std::string_view& text) {
  const std::size_t end = std::min(text.find('\n'), text.size());
  const std::string_view line = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  return line;
}

/// "driver 12.4" of a table that should say "driver 13.0".
std::string foreign_line(std::string_view text, std::string_view head) {
  while (!head.empty()) {
    const std::string_view want = take_line(head), got = take_line(text);
    if (want != got) return "'" + std::string(got) + "', and this is '" + std::string(want) + "'";
  }
  return "";
}

}  // namespace

AlgorithmTable::AlgorithmTable(const CardKey& card, const std::string& library,
                               const TuningOptions& options)
    : head_(lines_of(card) + "library " + library + "\n"), warn_(options.warn) {
  if (const fs::path folder = cache_folder(); !folder.empty()) {
    path_ = folder / ("autotune-" + hash_text(hash64(card.card)) + ".txt");
    std::string why;
    lines_ = read(why);
    if (!why.empty()) {
      warn_(
          path_.string() + " " + why + ": products take the default algorithms" +
          (options.autotune ? " until they are timed anew" : "; `autotune` times them anew"_named));
    }
  }
  if (options.autotune) write();
}

AlgorithmTable::Lines AlgorithmTable::read(std::string& why) const {
  std::error_code error;
  if (path_.empty() || !fs::exists(path_, error)) return {};
  std::string content;
  try {
    content = read_file(path_);
  } catch (const Error&) {
    why = "cannot be read";
    return {};
  }
  why = "is damaged";
  std::string_view text = content;
  const std::size_t sum_at = content.rfind(kChecksum);
  if (!text.starts_with(kTitle) || sum_at == std::string::npos || content[sum_at - 1] != '\n' ||
      text.substr(sum_at) != std::string(kChecksum) + hash_text(hash64(text.substr(0, sum_at))) +
                                 std::string(1, '\n')) {
    return {};
  }
  text = text.substr(kTitle.size(), sum_at - kTitle.size());
  if (const std::string line = foreign_line(text, head_); !line.empty()) {
    why = "has " + line;
    return {};
  }
  text.remove_prefix(head_.size());
  Lines lines;
  while (!text.empty()) {
    const std::string_view line = take_line(text);
    const std::size_t equals = std::min(line.rfind(" = "), line.size());
    Algorithm algorithm{};
    if (!read_algorithm(line.substr(std::min(equals + 3, line.size())), algorithm)) return {};
    lines[std::string(line.substr(0, equals))] = algorithm;
  }
  why.clear();
  return lines;
}

void AlgorithmTable::write() {
  if (!writable_) return;
  try {
    if (path_.empty()) throw Error(Fault::bad_data, "neither QUIRE_CACHE_DIR nor HOME is set");
    std::string text = std::string(kTitle) + head_;
    for (const auto& [key, algorithm] : lines_) text += key + " = " + text_of(algorithm) + "\n";
    std::error_code error;
    fs::create_directories(path_.parent_path(), error);  // where it fails, writing says why
    write_file(path_, text + std::string(kChecksum) + hash_text(hash64(text)) + "\n");
  } catch (const Error& error) {
    writable_ = false;
    std::string why = error.what();
    for (const std::string& detail : error.details()) why += ", " + detail;
    warn_(
        "the table of `autotune` cannot be kept, so another run may choose other algorithms: "_named +
        why);
  }
}

const Algorithm* AlgorithmTable::find(const std::string& key) const {
  const auto line = lines_.find(key);
  return line == lines_.end() ? nullptr : &line->second;
}

Algorithm AlgorithmTable::add(const std::string& key, const Algorithm& algorithm) {
  std::string why;
  for (const auto& [known, others] : read(why)) lines_.emplace(known, others);
  const Algorithm holds = lines_.emplace(key, algorithm).first->second;
  write();
  return holds;
}

std::string AlgorithmTable::fingerprint() const {
  std::string text;
  for (const auto& [key, algorithm] : lines_) text += key + "=" + text_of(algorithm) + "\n";
  return text.empty() ? "" : hash_text(hash64(text));
}

}  // namespace quire::cuda
