#include <vector>

#include "base/error.h"
#include "corpus/csv.h"
#include "tests/fuzz/memory_file.h"
#include "tests/fuzz/targets.h"

namespace {

using Rows = std::vector<std::vector<std::string>>;

Rows read(const void* data, std::size_t size) {
  const quire::test::MemoryFile memory(data, size);
  quire::CsvReader csv(memory.path());
  Rows rows{csv.columns()};
  std::vector<std::string> fields;
  std::size_t line = 0;
  while (csv.next(fields)) {
    QUIRE_FUZZ_REQUIRE(fields.size() == rows[0].size());
    QUIRE_FUZZ_REQUIRE(csv.line() > line);
    line = csv.line();
    rows.push_back(fields);
  }
  return rows;
}

std::string write(const Rows& rows) {
  std::string text;
  for (const std::vector<std::string>& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) {
      text += i > 0 ? ",\"" : "\"";
      for (const char c : row[i]) text += c == '"' ? std::string("\"\"") : std::string(1, c);
      text += '"';
    }
    text += "\r\n";
  }
  return text;
}

}  // namespace

int fuzz_csv(const std::uint8_t* data, std::size_t size) {
  try {
    const Rows rows = read(data, size);
    const std::string again = write(rows);
    QUIRE_FUZZ_REQUIRE(read(again.data(), again.size()) == rows);
  } catch (const quire::Error& error) {
    QUIRE_FUZZ_REQUIRE(error.fault() == quire::Fault::bad_data);
  }
  return 0;
}

#ifdef QUIRE_LIBFUZZER
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  return fuzz_csv(data, size);
}
#endif
