#include "corpus/clean.h"

#include "corpus/mojibake.h"
#include "corpus/records.h"
#include "tests/support/catch.h"
#include "tests/support/scratch.h"

using namespace quire;
using quire::test::ScratchFolder;

namespace {

struct Cleaned {
  std::vector<std::string> texts;
  std::vector<StepCount> counts;
};

Cleaned clean(const std::vector<std::string>& texts, const std::vector<std::string>& steps,
              std::int64_t max_line_length = 10) {
  Cleaner cleaner({.steps = cleaning_steps(steps), .max_line_length = max_line_length});
  Cleaned cleaned;
  for (const std::string& text : texts) {
    Record record{.text = text, .input_ids = {}, .labels = {}};
    if (cleaner.clean(record)) cleaned.texts.push_back(record.text);
  }
  cleaned.counts = cleaner.counts();
  return cleaned;
}

void check_step(const std::string& step, const std::vector<std::string>& texts,
                const std::vector<std::string>& want, std::int64_t changed, std::int64_t dropped) {
  INFO(step);
  const Cleaned cleaned = clean(texts, {step});
  CHECK(cleaned.texts == want);
  REQUIRE(cleaned.counts.size() == 1);
  CHECK(name_of(cleaned.counts[0].step) == step);
  CHECK(cleaned.counts[0].changed == changed);
  CHECK(cleaned.counts[0].dropped == dropped);
}

}  // namespace

TEST_CASE("each cleaning step does what its name says, and counts it") {
  check_step("nfc", {"e\u0301", "\u00e9", "plain", "a\u0327\u0301b"},
             {"\u00e9", "\u00e9", "plain", "\u00e1\u0327b"}, 2, 0);
  check_step("control", {"a\x01\x7F\tb\r\n", "\xC2\x85\x0C", "fine", "\xC2\xA0"},
             {"a\tb\r\n", "fine", "\xC2\xA0"}, 1, 1);
  check_step("repair-mojibake", {"caf\u00C3\u00A9", "caf\u00e9"}, {"caf\u00e9", "caf\u00e9"}, 1, 0);
  check_step("long-lines", {"0123456789\n01234", "01234567890", "éééééééééé"},
             {"0123456789\n01234", "éééééééééé"}, 0, 1);
  check_step("duplicates", {"a", "b", "a", "A", "a"}, {"a", "b", "A"}, 0, 2);
}

TEST_CASE("steps are made in their own order, on what the one before left") {
  const Cleaned cleaned = clean({"caf\u00C3\u00A9\x01", "cafe\u0301", "caf\u00e9"},
                                {"duplicates,nfc", "control", "repair-mojibake"});
  CHECK(cleaned.texts == std::vector<std::string>{"caf\u00e9"});
  REQUIRE(cleaned.counts.size() == 4);
  CHECK(cleaned.counts[0].changed == 1);  // nfc
  CHECK(cleaned.counts[1].changed == 1);  // control
  CHECK(cleaned.counts[2].changed == 1);  // repair-mojibake
  CHECK(cleaned.counts[3].dropped == 2);  // duplicates
  CHECK(clean({"a\x01", "a\x01"}, {}).texts == std::vector<std::string>{"a\x01", "a\x01"});
}

TEST_CASE("what has a prompt keeps it apart, and what brought ids stays as it is") {
  Cleaner cleaner({.steps = cleaning_steps({"control", "duplicates"})});
  Record record{.text =
                    "a\x01 => \x02"
                    "b",
                .input_ids = {},
                .labels = {},
                .prompt_bytes = 5};
  REQUIRE(cleaner.clean(record));
  CHECK(record.text == "a => b");
  CHECK(record.prompt_bytes == 4);
  for (int i = 0; i < 2; ++i) {
    Record ids{.text = "", .input_ids = {1, 2}, .labels = {}};
    CHECK(cleaner.clean(ids));
  }
}

TEST_CASE("a cleaning step that there is not is refused") {
  const ScratchFolder folder;
  CHECK(folder.message_of(Fault::usage, [] { cleaning_steps({"nfc,duplicate"}); }) ==
        "error: `steps`: there is no step 'duplicate'\n"
        "  steps: nfc, control, repair-mojibake, long-lines, duplicates\n"
        "  try: `steps` duplicates");
  CHECK(folder.message_of(Fault::usage, [] { cleaning_steps({"nfc,"}); })
            .find("there is no step ''") != std::string::npos);
}

TEST_CASE("cleaning that leaves nothing says what dropped it all") {
  const ScratchFolder folder;
  const CorpusOptions options{
      .paths = {folder.write("a.txt", "far too long").string()},
      .cleaning = {.steps = {CleaningStep::long_lines}, .max_line_length = 3}};
  CHECK(folder.message_of(Fault::bad_data, [&] { read_records(options); }) ==
        "error: `steps` left nothing of 1 record\n  long-lines dropped 1\n"
        "  try: fewer steps, or a larger `max_line_length`");
}

TEST_CASE("UTF-8 that was read as another encoding is known, and good text is not suspected") {
  const auto repaired = [](const std::string& text) { return repair_mojibake(text); };
  // As Windows-1252 and as Latin-1 have them.
  CHECK(repaired("caf\u00C3\u00A9 na\u00C3\u00AFve") == "caf\u00e9 na\u00efve");
  CHECK(repaired("it\u00E2\u20AC\u2122s") == "it\u2019s");
  CHECK(repaired("it\u00E2\u0080\u0099s") == "it\u2019s");
  CHECK(repaired("\u00E2\u20AC\u0153quoted\u00E2\u20AC\u009D") == "\u201Cquoted\u201D");
  CHECK(repaired("\u00F0\u0178\u02DC\u20AC!") == "\U0001F600!");
  CHECK(repaired("20\u00C2\u00B0") == "20\u00B0");
  CHECK(repaired("co\u00C3\u00BBt") == "co\u00FBt");
  CHECK(repaired("\u00EF\u00BB\u00BFtext") == "\uFEFFtext");
  CHECK(repaired("\u00C3\u0192\u00C2\u00A9") == "\u00e9");                          // twice
  CHECK(repaired("\u00D0\u0178\u00D1\u20AC\u00D0\u00B8") == "\u041F\u0440\u0438");  // Cyrillic
  CHECK(repaired("\u00E6\u2014\u00A5\u00E6\u0153\u00AC") == "\u65E5\u672C");        // Japanese

  for (const char* good :
       {"plain", "caf\u00e9", "CAF\u00C9\u00BB", "caf\u00e9\u00a0\u00bb", "na\u00efve \u2019",
        "\u00C3", "N\u00C3O", "AMANH\u00C3\u201D", "\u00d6\u201c", "voil\u00e0\u00a0\u00bb",
        "\u041F\u0440\u0438", "\u65E5\u672C", "\U0001F600", "\xFF\xC3", "\xC3"}) {
    INFO(good);
    CHECK_FALSE(find_mojibake(good).has_value());
    CHECK(repaired(good) == good);
  }
  const auto found = find_mojibake("ab caf\u00C3\u00A9!");
  REQUIRE(found.has_value());
  CHECK(found->begin == 6);
  CHECK(found->end == 10);
  CHECK(found->meant == "\u00e9");
}
