#include "engine/formats/llmc_checkpoint.h"
#include "tests/fuzz/memory_file.h"
#include "tests/fuzz/sound_source.h"
#include "tests/fuzz/targets.h"

int fuzz_llmc(const std::uint8_t* data, std::size_t size) {
  const quire::test::MemoryFile memory(data, size);
  return quire::test::require_sound_or_refused(
      [&] { return quire::LlmcCheckpoint(memory.path()); });
}

#ifdef QUIRE_LIBFUZZER
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  return fuzz_llmc(data, size);
}
#endif
