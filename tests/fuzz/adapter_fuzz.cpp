#include <cmath>

#include "base/error.h"
#include "engine/formats/adapter_config.h"
#include "tests/fuzz/memory_file.h"
#include "tests/fuzz/targets.h"

int fuzz_adapter(const std::uint8_t* data, std::size_t size) {
  static quire::test::MemoryFolder folder("adapter_config.json");
  try {
    const quire::AdapterConfig config = quire::read_adapter_config(folder.with(data, size));
    if (config.lora.r < 1) return 0;  // refused beside the model
    for (const char* module : {"transformer.h.0.attn.c_attn", "transformer.h.11.mlp.c_proj",
                               "transformer.wte", "lm_head"}) {
      config.is_target(module);
      QUIRE_FUZZ_REQUIRE(config.rank_of(module) > 0);
      QUIRE_FUZZ_REQUIRE(std::isfinite(config.scale_of(module)));
    }
  } catch (const quire::Error& error) {
    QUIRE_FUZZ_REQUIRE(error.fault() == quire::Fault::bad_data);
  }
  return 0;
}

#ifdef QUIRE_LIBFUZZER
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  return fuzz_adapter(data, size);
}
#endif
