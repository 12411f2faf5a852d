#include "engine/formats/gguf.h"
#include "tests/fuzz/memory_file.h"
#include "tests/fuzz/sound_source.h"
#include "tests/fuzz/targets.h"

int fuzz_gguf(const std::uint8_t* data, std::size_t size) {
  const quire::test::MemoryFile memory(data, size);
  return quire::test::require_sound_or_refused([&] { return quire::Gguf(memory.path()); });
}

#ifdef QUIRE_LIBFUZZER
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  return fuzz_gguf(data, size);
}
#endif
