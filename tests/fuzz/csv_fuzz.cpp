#include <optional>
#include <vector>

#include "base/error.h"
#include "corpus/csv.h"
#include "tests/fuzz/memory_file.h"
#include "tests/fuzz/targets.h"

namespace {

using Rows = std::vector<std::vector<std::string>>;

/// What is written again is read with its delimiter: of quotes that the writer leaves out,
/// finding it knows nothing.
Rows read(const void* data, std::size_t size, char delimiter = 0, bool report = false) {
  const quire::test::MemoryFile memory(data, size);
  quire::ReadingReport told;
  quire::CsvReader csv(memory.path(), {.delimiter = delimiter}, report ? &told : nullptr);
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
  std::string text = "\n";  // a first line "sep=;" would be no row
  for (const std::vector<std::string>& row : rows) {
    // A row of one empty field would be a blank line, which is passed over.
    const bool blank = row.size() == 1 && row[0].empty();
    for (std::size_t i = 0; i < row.size(); ++i) {
      text += (i > 0 ? "," : "") + (blank ? "\"\"" : quire::csv_field(row[i]));
    }
    text += "\r\n";
  }
  return text;
}

// The table row by row as it was written. A blank line goes first, which is passed over: the header
// may begin with a byte-order mark that the table did not begin with.
std::string copy(const void* data, std::size_t size, char& delimiter) {
  const quire::test::MemoryFile memory(data, size);
  quire::CsvReader csv(memory.path());
  delimiter = csv.delimiter();
  std::string text = "\n";
  std::vector<std::string> fields;
  do {
    text += std::string(csv.row_text()) + std::string(csv.line_end());
  } while (csv.next(fields));
  return text;
}

// Reading on behind what is wrong ends, and every row is sound or told.
void read_on(const void* data, std::size_t size) {
  const quire::test::MemoryFile memory(data, size);
  quire::CsvReader csv(memory.path());
  std::vector<std::string> fields;
  std::optional<quire::Error> trouble;
  std::size_t line = 0;
  while (csv.next(fields, trouble)) {
    QUIRE_FUZZ_REQUIRE(csv.line() > line);
    line = csv.line();
    QUIRE_FUZZ_REQUIRE(trouble ? trouble->fault() == quire::Fault::bad_data
                               : fields.size() == csv.columns().size());
  }
}

}  // namespace

int fuzz_csv(const std::uint8_t* data, std::size_t size) {
  try {
    const Rows rows = read(data, size);
    const std::string again = write(rows);
    QUIRE_FUZZ_REQUIRE(read(again.data(), again.size(), ',') == rows);
    char delimiter = 0;
    const std::string copied = copy(data, size, delimiter);
    QUIRE_FUZZ_REQUIRE(read(copied.data(), copied.size(), delimiter) == rows);
    QUIRE_FUZZ_REQUIRE(read(data, size, 0, /*report=*/true) == rows);
  } catch (const quire::Error& error) {
    QUIRE_FUZZ_REQUIRE(error.fault() == quire::Fault::bad_data);
  }
  try {
    read_on(data, size);
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
