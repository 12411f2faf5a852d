#include "pipeline/get_model.h"

#include "tests/support/catch.h"
#include "tests/support/text.h"

using namespace quire;
using namespace quire::test;
namespace fs = std::filesystem;

TEST_CASE("only what the Hub may have is told to be got there") {
  CHECK(contains(how_to_get(std::string("gpt2"))[0], "gpt2 does not come with Quire"));
  CHECK(contains(how_to_get(std::string("openai-community/gpt2"))[0], "does not come with Quire"));
  CHECK(contains(how_to_get(std::string("acme/gpt2"))[0], "if acme/gpt2 is a model of the Hub"));
  for (const char* path :
       {"", "storytelle", "./gpt2", "/a/gpt2", "a/b/gpt2", "gpt2/", "my model"}) {
    INFO(path);
    CHECK(how_to_get(std::string(path)).empty());
  }
  CHECK(how_to_get(fs::path("/x/models--acme--small/snapshots/abc")) ==
        how_to_get(std::string("acme/small")));
  CHECK(how_to_get(fs::path("/x/models--gpt2-xl/snapshots/abc")) ==
        how_to_get(std::string("gpt2-xl")));
  CHECK(how_to_get(fs::path("/x/gpt2/")) == how_to_get(std::string("gpt2")));
  CHECK(how_to_get(fs::path("/x/mine")).empty());
}
