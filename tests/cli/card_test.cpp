// quire card as a user runs it, and the cards that runs write.
#include "base/file.h"
#include "tests/cli/program.h"
#include "tests/cli/train_workplace.h"
#include "tests/support/catch.h"

using namespace quire;
using namespace quire::test;
namespace fs = std::filesystem;

namespace {

ProgramResult card(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), "card");
  return run_quire(arguments);
}

}  // namespace

TEST_CASE("a run's card is what quire card makes of its folder") {
  const Workplace work;
  const ProgramResult run = run_quire(
      work.command("out", {"--max-steps", "4", "--save-steps", "2", "--batch-size", "2"}));
  INFO(run.err);
  REQUIRE(run.exit_code == 0);
  const fs::path out = work.folder / "out", readme = out / "README.md";
  const std::string written = read_file(readme);
  CHECK(contains(written, "model-index:\n- name: \"out\"\n"));
  CHECK(contains(written, "name: \"text.txt, the held-out part\"\n      type: text\n"));
  CHECK(contains(written, "Trained with Quire, from scratch."));
  CHECK(contains(written, "\n4 steps over "));
  CHECK(contains(written, "| max_steps | 4 |\n| per_device_train_batch_size | 2 |\n"));
  CHECK_FALSE(contains(written, work.folder.path().string()));
  CHECK_FALSE(contains(written, "lazy dog"));

  const ProgramResult again = card({out});
  CHECK(again.exit_code == 0);
  CHECK(again.out.empty());
  CHECK(contains(again.err, "README.md is written\n  it names no licence yet\n  try: quire card "));
  CHECK(read_file(readme) == written);
  const ProgramResult shown = card({out, "--license", "mit", "--dry-run"});
  CHECK(contains(shown.out, "\nlicense: mit\n"));
  CHECK(read_file(readme) == written);
  CHECK_FALSE(contains(card({out, "--license", "mit", "--language", "en", "de"}).err, "licence"));
  CHECK(contains(read_file(readme), "\nlicense: mit\nlanguage:\n- en\n- de\n---\n"));
  write_file(readme, read_file(readme) + "\nIt is mine.\n");

  // Gone on from, the run renews its part and no other.
  const ProgramResult resumed =
      run_quire(work.command("out", {"--max-steps", "4", "--save-steps", "2", "--batch-size", "2",
                                     "--resume-from-checkpoint", "latest"}));
  INFO(resumed.err);
  CHECK(resumed.exit_code == 0);
  CHECK(contains(read_file(readme), "\nlicense: mit\n"));
  CHECK(contains(read_file(readme), "\nIt is mine.\n"));
  // A checkpoint's folder holds a model as well.
  CHECK(contains(card({out / "checkpoint-2", "--dry-run"}).out, "\n2 steps over "));
}

TEST_CASE("an adapter's card is what quire card makes of its folder") {
  const Workplace work;
  REQUIRE(run_quire(work.command("base", {"--max-steps", "1"})).exit_code == 0);
  const ProgramResult run =
      run_quire({"train", "--model", work.folder / "base", "--data", work.text, "--output-dir",
                 work.folder / "adapter", "--lora-r", "2", "--max-steps", "1"});
  INFO(run.err);
  REQUIRE(run.exit_code == 0);
  const fs::path readme = work.folder / "adapter/README.md";
  const std::string written = read_file(readme);
  CHECK(contains(written, "A LoRA adapter of rank 2, for a GPT-2 of "));
  CHECK(contains(written, "Trained with Quire, on from `base`."));
  CHECK(card({work.folder / "adapter"}).exit_code == 0);
  CHECK(read_file(readme) == written);
  // A model that went elsewhere is told of as far as the adapter itself does.
  fs::rename(work.folder / "base", work.folder / "moved");
  CHECK(card({work.folder / "adapter"}).exit_code == 0);
  CHECK(
      contains(read_file(readme), "A LoRA adapter of rank 2. Trained with Quire, on from `base`."));
}

TEST_CASE("a README.md of somebody's own is replaced only when asked for") {
  const Workplace work;
  const std::string readme = work.folder.write("out/README.md", "# Mine\n");
  const ProgramResult run =
      run_quire(work.command("out", {"--max-steps", "1", "--overwrite-output-dir"}));
  REQUIRE(run.exit_code == 0);
  CHECK(contains(run.err,
                 "README.md was written by hand or by an older version, and stays as it is\n  try: "
                 "quire card "));
  CHECK(read_file(readme) == "# Mine\n");
  const std::string out = work.folder / "out";
  check_refused(card({out}), 2, "README.md is not a card of Quire's");
  CHECK(contains(card({out, "--dry-run"}).out, "# out\n"));
  CHECK(read_file(readme) == "# Mine\n");
  CHECK(card({out, "--overwrite"}).exit_code == 0);
  CHECK(contains(read_file(readme), "# out\n"));
  CHECK(card({out}).exit_code == 0);
}

TEST_CASE("what makes no card is refused") {
  const ScratchFolder folder;
  check_refused(card({folder.path()}), 3, " holds no model");
  check_refused(card({folder / "none"}), 3, "there is no model at ");
  check_refused(card({folder.write("a.gguf", "GGUF")}), 2, "is a file: a card describes a folder");
  check_refused(card({}), 2, "no model folder is named");
  check_refused(card({"a", "b"}), 2, "one model folder at a time");
  check_refused(card({"a", "--license", "MIT License"}), 2, "is no identifier of the Hub's");
  check_refused(card({"a", "--language", "English"}), 2, "is no language's code");
  check_refused(card({"a", "--base-model", "/x/y"}), 2, "cannot be a name on the Hub");
  check_refused(card({"a", "--dataset", "a b"}), 2, "cannot be a name on the Hub");
  CHECK_FALSE(fs::exists(folder / "README.md"));
}
