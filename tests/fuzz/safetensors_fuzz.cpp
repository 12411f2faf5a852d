#include "base/error.h"
#include "engine/formats/safetensors.h"
#include "tests/fuzz/memory_file.h"
#include "tests/fuzz/targets.h"

int fuzz_safetensors(const std::uint8_t* data, std::size_t size) {
  const quire::test::MemoryFile memory(data, size);
  try {
    const quire::Safetensors file(memory.path());
    std::size_t covered = 0;
    for (const quire::FileTensor& tensor : file.tensors()) {
      covered += tensor.bytes.size();
      // Read all of it: outside the mapping this would fault.
      unsigned sum = 0;
      for (const std::byte byte : tensor.bytes) sum += std::to_integer<unsigned>(byte);
      QUIRE_FUZZ_REQUIRE(sum <= 255 * tensor.bytes.size());
      QUIRE_FUZZ_REQUIRE(file.find(tensor.name) == &tensor);
      if (!tensor.has_dtype() || !tensor.aligned() || tensor.shape.size() > 4) continue;
      QUIRE_FUZZ_REQUIRE(tensor.view().size_bytes() == tensor.bytes.size());
    }
    std::uint64_t header = 0;
    for (int i = 0; i < 8; ++i) header |= std::uint64_t{data[i]} << (8 * i);
    QUIRE_FUZZ_REQUIRE(8 + header + covered == size);
  } catch (const quire::Error& error) {
    QUIRE_FUZZ_REQUIRE(error.fault() == quire::Fault::bad_data);
  }
  return 0;
}

#ifdef QUIRE_LIBFUZZER
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  return fuzz_safetensors(data, size);
}
#endif
