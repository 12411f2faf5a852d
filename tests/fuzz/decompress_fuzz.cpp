#include "base/error.h"
#include "tests/corpus/unpacked.h"
#include "tests/fuzz/targets.h"

int fuzz_decompress(const std::uint8_t* data, std::size_t size) {
  const std::string_view packed(reinterpret_cast<const char*>(data), size);
  for (const quire::Compression compression :
       {quire::Compression::gzip, quire::Compression::zstd}) {
    try {
      const std::string text = quire::test::unpacked(packed, compression, "fuzz");
      // Behind another copy of itself the same comes out twice.
      const std::string twice =
          quire::test::unpacked(std::string(packed) + std::string(packed), compression, "fuzz");
      QUIRE_FUZZ_REQUIRE(twice == text + text);
    } catch (const quire::Error& error) {
      // Device: the library was not built in.
      QUIRE_FUZZ_REQUIRE(error.fault() == quire::Fault::bad_data ||
                         error.fault() == quire::Fault::device);
    }
  }
  return 0;
}

#ifdef QUIRE_LIBFUZZER
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  return fuzz_decompress(data, size);
}
#endif
