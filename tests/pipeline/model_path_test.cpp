// What --model stands for: a path, a bundled model, or a name in the Hub's local cache.
#include "pipeline/model_path.h"

#include <cstdlib>
#include <filesystem>

#include "base/error.h"
#include "tests/support/catch.h"
#include "tests/support/scratch.h"

namespace quire {
namespace {

// Sets a variable of the environment and puts the old value back at the end.
class Variable {
 public:
  Variable(const char* name, const std::string& value) : name_(name) {
    if (const char* old = std::getenv(name)) old_ = old;
    ::setenv(name, value.c_str(), 1);
  }
  ~Variable() {
    if (old_.empty()) {
      ::unsetenv(name_);
    } else {
      ::setenv(name_, old_.c_str(), 1);
    }
  }

 private:
  const char* name_;
  std::string old_;
};

std::string error_of(const std::string& model) {
  try {
    return "resolved to " + resolve_model(model).string();
  } catch (const Error& error) {
    return error.message();
  }
}

TEST_CASE("a Hub name is found in the cache, through refs/main") {
  const test::ScratchFolder scratch;
  scratch.write("hub/models--acme--small/snapshots/aaa/config.json", "{}");
  scratch.write("hub/models--acme--small/snapshots/bbb/config.json", "{}");
  scratch.write("hub/models--acme--small/refs/main", "aaa\n");
  scratch.write("hub/models--openai-community--gpt2/snapshots/ccc/config.json", "{}");
  const Variable none("HF_HUB_CACHE", "");
  const Variable home("HF_HOME", scratch.path().string());
  CHECK(resolve_model("acme/small") == scratch.path() / "hub/models--acme--small/snapshots/aaa");
  CHECK(resolve_model("gpt2").filename() == "ccc");
  {
    const Variable cache("HF_HUB_CACHE", (scratch.path() / "elsewhere").string());
    CHECK(error_of("acme/small").find((scratch.path() / "elsewhere").string()) !=
          std::string::npos);
  }
  // A snapshot that an interrupted download left incomplete does not count.
  std::filesystem::remove(scratch.path() / "hub/models--acme--small/snapshots/aaa/config.json");
  CHECK(resolve_model("acme/small").filename() == "bbb");
}

TEST_CASE("a path that exists wins over the cache") {
  const test::ScratchFolder scratch;
  scratch.write("hub/models--acme--small/snapshots/aaa/config.json", "{}");
  const std::string folder = scratch / "acme/small";
  const std::string config = scratch.write("acme/small/config.json", "{}");
  const Variable home("HF_HOME", scratch.path().string());
  CHECK(resolve_model(folder) == folder);
  CHECK(resolve_model(config) == config);
  CHECK(config_folder(config) == folder);
  CHECK(config_folder(folder) == folder);
}

TEST_CASE("a model bundled with the program is found by its name") {
  const test::ScratchFolder scratch;
  scratch.write("models/mini/config.json", "{}");
  const Variable data("QUIRE_DATA", scratch.path().string());
  CHECK(resolve_model("mini") == scratch.path() / "models/mini");
}

TEST_CASE("a model that is nowhere: the error lists the places") {
  const test::ScratchFolder scratch;
  const Variable cache("HF_HUB_CACHE", scratch.path().string());
  const std::string error = error_of("acme/none");
  CHECK(error.starts_with("error: there is no model 'acme/none'\n  no file or folder /"));
  CHECK(error.find((scratch.path() / "models--acme--none").string()) != std::string::npos);
  CHECK(error.find("\n  try: ") != std::string::npos);
  CHECK(error_of("").starts_with("error: the model's name is empty"));
  CHECK(error_of("./none").find("models--") == std::string::npos);
}

TEST_CASE("a folder without config.json is refused") {
  const test::ScratchFolder scratch;
  const std::string error = error_of(scratch.path().string());
  CHECK(error.starts_with("error: " + scratch.path().string() + " is not a model folder"));
}

}  // namespace
}  // namespace quire
