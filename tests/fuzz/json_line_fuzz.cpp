#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/json.h"
#include "base/text.h"
#include "corpus/json_line.h"
#include "corpus/json_text.h"
#include "tests/fuzz/targets.h"

namespace {

using Json = nlohmann::json;

// Whether a call gives a result; it must not throw anything but Error(bad_data).
template <class Call>
bool succeeds(const Call& call) {
  try {
    call();
    return true;
  } catch (const quire::Error& error) {
    QUIRE_FUZZ_REQUIRE(error.fault() == quire::Fault::bad_data);
    return false;
  }
}

}  // namespace

int fuzz_json_line(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const std::string valid = quire::replace_invalid_utf8(text);
  const quire::StrictJson strict = quire::strict_json(valid);
  const Json json = quire::parse_json_or_discard<Json>(strict.text.empty() ? valid : strict.text);
  const bool zero = text.find('\0') != std::string_view::npos;
  const std::filesystem::path path = "fuzz.jsonl";
  const bool read = succeeds([&] { quire::JsonLine(path, 1, text); });
  QUIRE_FUZZ_REQUIRE(read == (!zero && json.is_object()));
  if (!read) return 0;
  const quire::JsonLine line(path, 1, text);
  for (const auto& item : json.items()) {
    const std::string& name = item.key();  // a binding, Clang 14 does not capture
    const Json& value = item.value();
    std::size_t count = 0;
    const std::string_view written = quire::written_member(valid, name, &count);
    QUIRE_FUZZ_REQUIRE(count > 0);
    const quire::StrictJson own = quire::strict_json(written);
    QUIRE_FUZZ_REQUIRE(quire::parse_json_or_discard<Json>(own.text.empty() ? written : own.text) ==
                       value);
    std::string as_text;
    const bool given = succeeds([&] { as_text = line.text(name, "quire train", "text_column"); });
    if (count > 1) {
      // Told twice in the same letters it is refused; by an escape in one of them, it may pass.
      QUIRE_FUZZ_REQUIRE(!given || valid.find('\\') != std::string::npos);
      continue;
    }
    if (value.is_string()) QUIRE_FUZZ_REQUIRE(given && as_text == value.get<std::string>());
    if (value.is_number()) QUIRE_FUZZ_REQUIRE(given && as_text == written);
    succeeds([&] { line.list(name, "quire train", "text_column"); });
  }
  return 0;
}

#ifdef QUIRE_LIBFUZZER
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  return fuzz_json_line(data, size);
}
#endif
