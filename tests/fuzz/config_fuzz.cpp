#include "base/error.h"
#include "engine/formats/hub_folder.h"
#include "engine/generation/config.h"
#include "tests/fuzz/memory_file.h"
#include "tests/fuzz/targets.h"

namespace {

void check_config(const void* data, std::size_t size) {
  const quire::test::MemoryFile memory(data, size);
  try {
    const quire::Gpt2Config config = quire::read_config(memory.path());
    config.check();
    QUIRE_FUZZ_REQUIRE(config.parameter_count() > 0);
    const std::string text = quire::config_to_json(config, quire::DType::f32);
    const quire::test::MemoryFile written(text.data(), text.size());
    QUIRE_FUZZ_REQUIRE(
        quire::config_to_json(quire::read_config(written.path()), quire::DType::f32) == text);
  } catch (const quire::Error& error) {
    QUIRE_FUZZ_REQUIRE(error.fault() == quire::Fault::bad_data);
  }
}

void check_generation_config(const void* data, std::size_t size) {
  static quire::test::MemoryFolder folder("generation_config.json");
  try {
    const quire::GenerationDefaults defaults =
        quire::read_generation_defaults(folder.with(data, size), quire::Gpt2Config());
    defaults.config.check();
    QUIRE_FUZZ_REQUIRE(defaults.num_return_sequences >= 1);
  } catch (const quire::Error& error) {
    QUIRE_FUZZ_REQUIRE(error.fault() == quire::Fault::bad_data);
  }
}

}  // namespace

int fuzz_config(const std::uint8_t* data, std::size_t size) {
  check_config(data, size);
  check_generation_config(data, size);
  return 0;
}

#ifdef QUIRE_LIBFUZZER
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  return fuzz_config(data, size);
}
#endif
