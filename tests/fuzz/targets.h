// Properties that hold for every input, as libFuzzer calls them: each returns 0, throws nothing,
// and aborts when a property does not hold.
//
// tests/fuzz/corpus/NAME holds small inputs for each, NAME.dict the words of its format; what a
// fuzzer found stays there once it is mended. `scripts/fuzz.sh SECONDS` runs libFuzzer from them,
// under Clang; everywhere, fuzz_test.cpp drives all of them with seeded mutations.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

/// Opening a file of these bytes throws Error(bad_data), or every tensor lies inside the file, has
/// the bytes that its shape takes, and together they cover the data.
int fuzz_safetensors(const std::uint8_t* data, std::size_t size);
/// Reading these bytes as a table throws Error(bad_data), or all rows have as many fields as the
/// header, and written again, by field or as they were, they read back the same;
/// and what is read on behind a row that is wrong is in order.
int fuzz_csv(const std::uint8_t* data, std::size_t size);
/// Reading these bytes as a line of JSON throws Error(bad_data), or each field is found as it is
/// written, its text is that of the line where it is a number,
/// and one that is there twice is refused.
int fuzz_json_line(const std::uint8_t* data, std::size_t size);
/// The first two bytes are options, the rest is a text: its sentences leave out nothing but white
/// space, no word is empty, and its keywords are as many, as long and in the order asked for.
int fuzz_keywords(const std::uint8_t* data, std::size_t size);
/// Opening these bytes as a token shard throws Error(bad_data), or its records are in order and all
/// ids lie in the file.
int fuzz_shard(const std::uint8_t* data, std::size_t size);
/// Unpacking these bytes throws Error(bad_data), or gives a text that comes twice where they do.
int fuzz_decompress(const std::uint8_t* data, std::size_t size);
/// The first byte chooses: the rest as one of a tokenizer's files is read or refused with
/// Error(bad_data), as ids it decodes, as a text it is encoded and decoded without loss.
int fuzz_tokenizer(const std::uint8_t* data, std::size_t size);
/// Opening these bytes as a tokenizer.json throws Error(bad_data), or gives a tokenizer that has
/// every id that it encodes a text to.
int fuzz_tokenizer_json(const std::uint8_t* data, std::size_t size);
/// Opening these bytes as llm.c's tokenizer.bin throws Error(bad_data), or gives a tokenizer whose
/// tokens are all of the file, and that decodes what it encodes.
int fuzz_llmc_tokenizer(const std::uint8_t* data, std::size_t size);
/// Reading these bytes as a config.json and as a generation_config.json throws Error(bad_data), or
/// gives what passes its own check; the first is written and read again as it was.
int fuzz_config(const std::uint8_t* data, std::size_t size);
/// Reading these bytes as an adapter_config.json, and asking it of modules, throws Error(bad_data),
/// or gives ranks and scales that are numbers.
int fuzz_adapter(const std::uint8_t* data, std::size_t size);
/// These bytes as a template throw Error(usage), or it fills with texts and adds nothing else; its
/// prompt begins what it fills, and knows nothing of the last field.
int fuzz_template(const std::uint8_t* data, std::size_t size);
/// Reading these bytes as requests throws Error(bad_data or usage), or every request has an error
/// or a prompt that the model can take.
int fuzz_requests(const std::uint8_t* data, std::size_t size);

/// Opening a file of these bytes as a checkpoint of PyTorch, in either form, as a GGUF file or as a
/// checkpoint of llm.c throws Error(bad_data), or every tensor lies inside the file, has the bytes
/// that its shape takes and is read, and a config passes its own check.
int fuzz_torch(const std::uint8_t* data, std::size_t size);
int fuzz_gguf(const std::uint8_t* data, std::size_t size);
int fuzz_llmc(const std::uint8_t* data, std::size_t size);
/// The same of TensorFlow's index beside 256 bytes of data: the rest of these bytes where the first
/// is even, else a table of the keys and values that they are.
int fuzz_tensorflow(const std::uint8_t* data, std::size_t size);

#define QUIRE_FUZZ_REQUIRE(condition)                                                \
  do {                                                                               \
    if (!(condition)) {                                                              \
      std::fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                                  \
    }                                                                                \
  } while (false)
