// The demo's folder, and what it trains without a command line.
#include "pipeline/demo.h"

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "kernels/open_device.h"
#include "pipeline/model_path.h"
#include "tests/support/catch.h"
#include "tests/support/scratch.h"

using namespace quire;
using namespace quire::test;
namespace fs = std::filesystem;

TEST_CASE("a folder that no demo made is refused, unless it is to be overwritten") {
  const ScratchFolder scratch;
  CHECK_NOTHROW(check_demo_folder(scratch / "none", false));
  CHECK_NOTHROW(check_demo_folder(scratch.path(), false));
  scratch.write("mine/letter.txt", "dear diary");
  CHECK_THROWS_AS(check_demo_folder(scratch / "mine", false), Error);
  CHECK_NOTHROW(check_demo_folder(scratch / "mine", true));
  scratch.write("made/quire-demo.json", "{}");
  CHECK_NOTHROW(check_demo_folder(scratch / "made", false));
}

TEST_CASE("the demo trains, writes the same texts from the same seed, and owns its folder") {
  const ScratchFolder scratch;
  const std::unique_ptr<Device> device = open_device("cpu");
  TrainOptions options;
  options.corpus.paths = {find_quotes().string()};
  options.corpus.text_column = "quote";
  options.validation_split = 0.01;  // 5 of 465 records: each validation reads them all
  options.training.packing = Packing::none;
  options.training.block_size = 32;
  options.training.max_steps = 9;
  options.training.save_steps = 0;
  options.training.per_device_train_batch_size = 2;
  options.training.output_dir = scratch / "out";
  Demo demo(*device, resolve_model("narrator"));
  demo.read(options, {});
  CHECK(demo.train_records() > demo.held_out_records());
  CHECK(options.training.logging_steps == 1);
  CHECK(options.training.eval_steps == 3);

  const auto texts = [&] {
    std::vector<std::string> all;
    for (const TextSample& sample : demo.texts(7, [] { return false; })) all.push_back(sample.text);
    return all;
  };
  const std::vector<std::string> before = texts();
  CHECK(before.size() == 3);
  CHECK(texts() == before);
  const Demo in_4_bits(*device, resolve_model("narrator"), Quantisation::int4);
  const std::vector<TextSample> others = in_4_bits.texts(7, [] { return false; });
  REQUIRE(others.size() == 3);
  CHECK(
      (others[0].text != before[0] || others[1].text != before[1] || others[2].text != before[2]));
  CHECK(demo.texts(7, [] { return true; }).empty());

  int told = 0;
  TrainingCallbacks callbacks;
  callbacks.write_companions = [&](const fs::path&) { ++told; };
  const TrainingResult result = demo.fine_tune(options.training, callbacks);
  CHECK(result.steps == 9);
  CHECK(told > 0);
  CHECK(texts() != before);
  CHECK(Tokenizer::exists(options.training.output_dir));
  CHECK_NOTHROW(check_demo_folder(options.training.output_dir, false));
  const auto mark =
      parse_json<nlohmann::json>(read_file(options.training.output_dir / "quire-demo.json"));
  CHECK(mark["steps"] == 9);
}
