// --autotune on a pretended card: the table, runs that read it, and tables that are no good.
#ifndef QUIRE_TEST_ON_GPU
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/json.h"
#include "tests/cli/cuda_workplace.h"
#include "tests/support/cache.h"
#include "tests/support/catch.h"

using namespace quire;
using namespace quire::test;
namespace fs = std::filesystem;

namespace {

struct Tuned {
  CacheFolder cache;
  CudaWorkplace work;

  ProgramResult train(const std::string& output, std::vector<std::string> more,
                      const std::string& machine = "") const {
    more.insert(more.end(), {"--config", work.config, "--device", "cuda", "--save-steps", "1"});
    ProgramResult result = CudaWorkplace::run(work.train_command(output, more), machine);
    INFO(result.err);
    CHECK(result.exit_code == 0);
    return result;
  }
  bool same_weights(const std::string& a, const std::string& b, int step) const {
    const std::string file = "/checkpoint-" + std::to_string(step) + "/model.safetensors";
    return work.content(a + file) == work.content(b + file);
  }
  fs::path table() const {
    for (const auto& entry : fs::directory_iterator(cache.path())) {
      if (entry.path().filename().string().starts_with("autotune-")) return entry.path();
    }
    FAIL("no table");
    return {};
  }
};

}  // namespace

TEST_CASE("what --autotune finds holds for later runs, and a resumed run says where it changed") {
  const Tuned t;
  t.train("usual", {"--max-steps", "3", "--stop-at-step", "2"});
  CHECK(t.train("tuned", {"--max-steps", "3", "--stop-at-step", "2", "--autotune"}).err.empty());
  CHECK(contains(read_file(t.table()), "quire autotune table 1\ncard CUDA on the host, "));
  t.train("later", {"--max-steps", "3", "--stop-at-step", "2"});
  CHECK(t.same_weights("later", "tuned", 2));
  CHECK_FALSE(t.same_weights("later", "usual", 2));

  // Going on with the same table is silent and has the same bits; without it, it is told.
  t.train("straight", {"--max-steps", "3"});
  const std::vector<std::string> resume = {"--max-steps", "3", "--resume-from-checkpoint",
                                           "latest"};
  const auto go_on = [&](const std::string& output) {
    std::vector<std::string> command = t.work.train_command(
        output, {"--config", t.work.config, "--device", "cuda", "--save-steps", "1"});
    std::erase(command, "--quiet");
    command.insert(command.end(), resume.begin(), resume.end());
    const ProgramResult result = CudaWorkplace::run(command);
    INFO(result.err);
    CHECK(result.exit_code == 0);
    return result.err;
  };
  CHECK_FALSE(contains(go_on("tuned"), "autotune table"));
  CHECK(t.same_weights("tuned", "straight", 3));
  fs::remove(t.table());
  const std::string told = go_on("later");
  INFO(told);
  CHECK(contains(told, "autotune table: the checkpoint has "));
  CHECK(contains(told, ", now none\n"));
}

TEST_CASE("a table that is no good is told, and products take the default algorithms") {
  const Tuned t;
  t.train("usual", {"--max-steps", "1"});
  t.train("tuned", {"--max-steps", "1", "--autotune"});
  const std::string good = read_file(t.table());
  const auto check = [&](const std::string& what, const std::string& output,
                         const std::string& machine = "") {
    const ProgramResult result = t.train(output, {"--max-steps", "1"}, machine);
    INFO(result.err);
    CHECK(contains(result.err, "warning: " + t.table().string() + " " + what));
    CHECK(
        contains(result.err, "products take the default algorithms; --autotune times them anew\n"));
    CHECK(t.same_weights(output, "usual", 1));
  };
  check("has 'driver 13.0', and this is 'driver 13.1'", "newer", "driver=13010");
  write_file(t.table(), good.substr(0, good.size() / 2));
  check("is damaged: ", "cut");
  write_file(t.table(), "\n");
  check("is damaged: ", "empty");
}

TEST_CASE("a cache folder that cannot be written is told once, and the run goes on") {
  const Tuned t;
  const fs::path file = t.work.folder.write("file", "in the way");
  setenv("QUIRE_CACHE_DIR", file.c_str(), 1);
  const ProgramResult result = t.train("out", {"--max-steps", "1", "--autotune"});
  const std::string warning =
      "warning: the table of --autotune cannot be kept, so another run may ";
  const std::size_t at = result.err.find(warning);
  CHECK(at != std::string::npos);
  CHECK(result.err.find(warning, at + 1) == std::string::npos);
  CHECK(contains(result.err, file.string()));
  // A proof cannot be kept there either: that is no reason to call the card wrong.
  setenv("QUIRE_CACHE_DIR", (file / "below").c_str(), 1);
  const ProgramResult verified =
      CudaWorkplace::run({"doctor", "--verify", "--device", "cuda", "--json"});
  CHECK(verified.exit_code == 0);
  CHECK(contains(verified.err,
                 "warning: the result cannot be kept, so kernels of one chip stay unused: "));
}

TEST_CASE("bench kernels says which epilogues the library granted, and by which table") {
  const Tuned t;
  const fs::path
      file = t.work.folder / "bench.json",
      config = t.work.folder.write(
          "even.json",
          R"({"vocab_size": 40, "n_layer": 1, "n_head": 2, "n_embd": 16, "n_positions": 16})");
  const ProgramResult result =
      CudaWorkplace::run({"bench", "kernels", "--config", config, "--device", "cuda", "--dtype",
                          "bfloat16", "--batch-size", "2", "--seconds", "0.001", "--ops",
                          "matmul_forward/fc", "--autotune", "--output", file});
  INFO(result.err);
  REQUIRE(result.exit_code == 0);
  CHECK(contains(result.err, "\n  epilogues: gelu_new bfloat16: in the product\n"));
  const auto context = parse_json<nlohmann::json>(read_file(file))["context"];
  CHECK(context["epilogues"] == "gelu_new bfloat16: in the product");
  CHECK(context["autotune_table"].get<std::string>().size() == 16);
}

TEST_CASE("on a CPU --autotune says that there is nothing to time") {
  const ProgramResult result = run_quire({"doctor", "--device", "cpu", "--autotune", "--json"});
  CHECK(result.exit_code == 0);
  CHECK(result.err ==
        "--autotune: the CPU has one algorithm for a product, there is nothing to time\n");
}
#endif
