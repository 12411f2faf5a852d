#ifdef QUIRE_WITH_TENSORBOARD
#include "report/tensorboard_log.h"

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "tests/support/catch.h"
#include "tests/support/fixtures.h"
#include "tests/support/scratch.h"
#include "tests/support/text.h"

using namespace quire;
using namespace quire::test;
namespace fs = std::filesystem;

namespace {

std::string bytes_of(const std::string& hex) {
  std::string bytes;
  for (std::size_t i = 0; i < hex.size(); i += 2) {
    bytes.push_back(static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16)));
  }
  return bytes;
}

std::string file_of(const fs::path& folder) {
  return read_file(folder / TensorboardLog::kFileName);
}

TrainingProgress progress_at(std::int64_t step) {
  return {.step = step, .loss = 3.5, .learning_rate = 5e-5, .mfu = 0.5};
}

}  // namespace

TEST_CASE("records and scalars are TensorBoard's own, byte by byte") {
  QUIRE_FIXTURE(path, "tensorboard/records.json");
  const nlohmann::json files = parse_json<nlohmann::json>(read_file(path));
  int records = 0, scalars = 0;
  for (const auto& [name, list] : files.items()) {
    const std::string file = read_file(path.parent_path() / name);
    for (const nlohmann::json& record : list) {
      INFO(name << " at " << record["offset"]);
      const std::string data = bytes_of(record["data"]);
      const std::string framed = framed_record(data);
      CHECK(framed == file.substr(record["offset"], framed.size()));
      CHECK(masked_crc32c(framed.substr(0, 8)) == record["masked_crc_length"].get<std::uint32_t>());
      CHECK(masked_crc32c(data) == record["masked_crc_data"].get<std::uint32_t>());
      ++records;
      // The other file has its scalars as tensors.
      if (name != "events.out.tfevents.fixture" || !record.contains("tag")) continue;
      CHECK(scalar_event(record["wall_time"], record["step"], record["tag"], record["value"]) ==
            data);
      ++scalars;
    }
  }
  CHECK(records == 26);
  CHECK(scalars == 12);
}

TEST_CASE("a log for TensorBoard drops later events when it goes on, and all when it is new") {
  const ScratchFolder scratch;
  {
    TensorboardLog log("{\"learning_rate\": 5e-05, \"bf16\": true, \"data\": [\"a.txt\"]}");
    log.begin(scratch.path(), -1);
    log.train(progress_at(10));
    log.sample(10, {"Once", " upon a\ntime"});
    log.warning(20, "step 20 is skipped");
    log.end(RunEnd::done);
  }
  const std::string whole = file_of(scratch.path());
  CHECK(contains(whole, "    Once upon a\n    time"));  // as code, so that lines stay lines
  for (const char* part : {"brain.Event:2", "learning_rate", "train/loss", "samples/Once",
                           "warnings", "session_end_info", "[\"a.txt\"]"}) {
    INFO(part);
    CHECK(contains(whole, part));
  }
  std::ofstream(scratch / TensorboardLog::kFileName, std::ios::app | std::ios::binary)
      << framed_record("cut short").substr(0, 15);
  {
    TensorboardLog log("{}");
    log.begin(scratch.path(), 20);
    const std::string kept = file_of(scratch.path());
    CHECK(whole.starts_with(kept));
    CHECK(contains(kept, "warnings"));
    CHECK_FALSE(contains(kept, "session_end_info"));  // it has not ended after all
  }
  {
    TensorboardLog log("{}");
    log.begin(scratch.path(), 19);
    const std::string kept = file_of(scratch.path());
    CHECK(whole.starts_with(kept));
    CHECK(contains(kept, "samples/Once"));
    CHECK_FALSE(contains(kept, "warnings"));
  }
  {
    TensorboardLog log("{}");
    log.begin(scratch.path(), -1);
    CHECK_FALSE(contains(file_of(scratch.path()), "train/loss"));
    log.discard();
    CHECK(fs::is_empty(scratch.path()));
  }
}

#endif
