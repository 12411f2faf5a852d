#include "base/cache_folder.h"

#include <cstdlib>
#include <map>
#include <optional>
#include <string>

#include "base/build_id.h"
#include "base/hash.h"
#include "tests/support/catch.h"

namespace quire::test {
namespace {

/// Variables of the environment, put back at the end; empty: not set.
class Environment {
 public:
  explicit Environment(const std::map<std::string, std::string>& values) {
    for (const auto& [name, value] : values) {
      const char* const before = std::getenv(name.c_str());
      before_[name] = before == nullptr ? std::nullopt : std::optional<std::string>(before);
      set(name, value.empty() ? std::nullopt : std::optional(value));
    }
  }
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;
  ~Environment() {
    for (const auto& [name, value] : before_) set(name, value);
  }

 private:
  static void set(const std::string& name, const std::optional<std::string>& value) {
    if (value) {
      setenv(name.c_str(), value->c_str(), 1);
    } else {
      unsetenv(name.c_str());
    }
  }
  std::map<std::string, std::optional<std::string>> before_;
};

TEST_CASE("the cache folder is Quire's own, or its place in the user's") {
  const auto folder = [](const std::string& own, const std::string& all, const std::string& home) {
    const Environment environment(
        {{"QUIRE_CACHE_DIR", own}, {"XDG_CACHE_HOME", all}, {"HOME", home}});
    return cache_folder();
  };
  CHECK(folder("/own", "/all", "/home/me") == "/own");
  CHECK(folder("", "/all", "/home/me") == "/all/quire");
  CHECK(folder("", "", "/home/me") == "/home/me/.cache/quire");
  CHECK(folder("", "", "").empty());
}

TEST_CASE("a hash is XXH3's, and the linker's id of this program is there") {
  CHECK(hash_text(hash64("")) == "2d06800538d394c2");  // what xxhsum -H3 prints
  CHECK(build_id().size() >= 16);
  CHECK(build_id().find_first_not_of("0123456789abcdef") == std::string::npos);
}

}  // namespace
}  // namespace quire::test
