// Which of the compiled levels of vectors kernels/cpu chooses, beside what the system says of the processor.
#include <cstdlib>
#include <fstream>
#include <set>
#include <sstream>
#include <string>

#include "kernels/open_device.h"
#include "tests/support/catch.h"
#include "tests/support/text.h"

namespace quire::test {
namespace {

/// Of /proc/cpuinfo; empty where it has none, as on ARM.
std::set<std::string> flags_of_processor() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with("flags")) continue;
    std::istringstream words(line.substr(line.find(':') + 1));
    std::set<std::string> flags;
    for (std::string word; words >> word;) flags.insert(word);
    return flags;
  }
  return {};
}

}  // namespace

TEST_CASE("the CPU's kernels are those of the best level that the processor's flags allow") {
  const std::set<std::string> flags = flags_of_processor();
  const auto all = [&](const std::set<std::string>& wanted) {
    for (const std::string& flag : wanted) {
      if (!flags.contains(flag)) return false;
    }
    return true;
  };
  if (flags.empty() || std::getenv("QUIRE_SIMD") != nullptr) return;
  const bool sse4 = all({"ssse3", "sse4_1", "sse4_2", "aes", "pclmulqdq"});
  const bool avx2 = sse4 && all({"avx2", "fma", "f16c", "bmi1", "bmi2", "abm"});
  bool avx512 = avx2 && all({"avx512f", "avx512vl", "avx512dq", "avx512bw", "avx512cd"});
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  avx512 = false;  // QuireSimd.cmake
#endif
  const char* best = avx512 ? "AVX-512" : avx2 ? "AVX2" : sse4 ? "SSE4" : "no vectors";
  const std::unique_ptr<Device> device = open_device("cpu");
  const char* tiles = device->why_no_amx().empty() ? " with AMX" : "";
  CHECK(contains(device->description(), std::string(", ") + best + tiles + ", "));
}

TEST_CASE("AMX is used only where the processor's flags have it") {
  const std::set<std::string> flags = flags_of_processor();
  if (flags.empty()) return;
  const std::string why = open_device("cpu")->why_no_amx();
  const bool has = flags.contains("amx_tile") && flags.contains("amx_bf16");
  if (!has) CHECK_FALSE(why.empty());
  if (has && std::getenv("QUIRE_SIMD") == nullptr)
    CHECK_FALSE(contains(why, "this processor has none"));
}

}  // namespace quire::test
