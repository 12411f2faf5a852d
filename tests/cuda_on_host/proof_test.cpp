// Kernels of one chip wait until they have passed on the card, and what is kept of that is believed
// for this card, driver and build alone.
#include "kernels/cuda/proof.h"

#include <cstdlib>
#include <filesystem>

#include "base/build_id.h"
#include "base/file.h"
#include "kernels/cuda/cuda_device.h"
#include "tests/support/cache.h"
#include "tests/support/catch.h"
#include "tests/support/compare.h"

namespace quire::test {
namespace {

namespace fs = std::filesystem;
using cuda::CardKey;

bool proven(const CardKey& key) {
  return cuda::why_unproven(key).empty();
}

TEST_CASE("a proof holds for its card, driver and build") {
  const CacheFolder cache;
  const CardKey key{"a card", "13.0", "abc"};
  CHECK(cuda::why_unproven(key) ==
        "'quire doctor `verify`' has not passed with this build on this card and driver");
  cuda::keep_proof(key, true);
  CHECK(proven(key));
  CHECK_FALSE(proven({"another card", "13.0", "abc"}));
  CHECK_FALSE(proven({"a card", "13.1", "abc"}));
  CHECK_FALSE(proven({"a card", "13.0", "abd"}));
  cuda::keep_proof(key, false);
  CHECK_FALSE(proven(key));
}

TEST_CASE("a proof that is damaged, or another card's, proves nothing") {
  const CacheFolder cache;
  const CardKey key{"a card", "13.0", "abc"}, other{"another card", "13.0", "abc"};
  cuda::keep_proof(key, true);
  const fs::path file = fs::directory_iterator(cache.path())->path();
  const std::string text = read_file(file);
  cuda::keep_proof(other, true);
  fs::path file_of_other;
  for (const auto& entry : fs::directory_iterator(cache.path())) {
    if (entry.path() != file) file_of_other = entry.path();
  }
  for (const std::string& damaged :
       {std::string(), text.substr(0, text.size() - 3), text + "\n", read_file(file_of_other)}) {
    write_file(file, damaged);
    CHECK(cuda::why_unproven(key) ==
          file.string() + " is damaged; 'quire doctor `verify`' writes it anew");
  }
  cuda::keep_proof(key, true);
  CHECK(proven(key));
}

TEST_CASE("where nothing can be kept, nothing is proven, and keeping says why") {
  const CacheFolder cache;
  const CardKey key{"a card", "13.0", "abc"};
  CHECK_FALSE(proven({"a card", "13.0", ""}));
  CHECK(error_of([] {
          cuda::keep_proof({"a card", "13.0", ""}, true);
        }) == "the result cannot be kept: the linker gave this build no id to keep a proof by");
  const fs::path file = cache.path().parent_path() / "file";
  write_file(file, "in the way");
  setenv("QUIRE_CACHE_DIR", file.c_str(), 1);
  const std::string error = error_of([&] { cuda::keep_proof(key, true); });
  INFO(error);
  CHECK(error.find(file.string()) != std::string::npos);
  CHECK_FALSE(proven(key));
}

TEST_CASE("a device tells whether it is proven, also in another process of this build") {
  const CacheFolder cache;
  CHECK(build_id().size() >= 16);
  const auto device = open_cuda_device(0);
  CHECK_FALSE(device->why_unproven().empty());
  device->keep_proof(true);
  CHECK(device->why_unproven().empty());
  CHECK(open_cuda_device(0)->why_unproven().empty());
  cuda_on_host::machine().driver_version = 13010;
  CHECK_FALSE(open_cuda_device(0)->why_unproven().empty());
  cuda_on_host::machine() = {};
  device->keep_proof(false);
  CHECK_FALSE(open_cuda_device(0)->why_unproven().empty());
}

}  // namespace
}  // namespace quire::test
