#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "corpus/template.h"
#include "tests/fuzz/targets.h"

int fuzz_template(const std::uint8_t* data, std::size_t size) {
  try {
    const quire::Template pattern(std::string_view(reinterpret_cast<const char*>(data), size));
    const std::vector<std::string>& fields = pattern.fields();
    QUIRE_FUZZ_REQUIRE(!fields.empty());
    const std::vector<std::string_view> nothing(fields.size());
    std::vector<std::string_view> values(fields.begin(), fields.end());
    std::size_t added = 0;
    for (const std::string& field : fields) {
      QUIRE_FUZZ_REQUIRE(!field.empty() && field.find('}') == std::string::npos);
      added += field.size();
    }
    const std::string full = pattern.fill(values);
    QUIRE_FUZZ_REQUIRE(full.size() == pattern.fill(nothing).size() + added);
    const std::string prompt = pattern.prompt(values);
    QUIRE_FUZZ_REQUIRE(full.starts_with(prompt));
    values.back() = "another";
    QUIRE_FUZZ_REQUIRE(pattern.prompt(values) == prompt);
    values.pop_back();  // it asks for no more than the fields before the last
    QUIRE_FUZZ_REQUIRE(pattern.prompt(values) == prompt);
  } catch (const quire::Error& error) {
    QUIRE_FUZZ_REQUIRE(error.fault() == quire::Fault::usage);
  }
  return 0;
}

#ifdef QUIRE_LIBFUZZER
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  return fuzz_template(data, size);
}
#endif
