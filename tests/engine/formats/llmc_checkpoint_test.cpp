#include "engine/formats/llmc_checkpoint.h"

#include "tests/engine/formats/tiny_char.h"

namespace quire::test {

TEST_CASE("checkpoints of llm.c hold the weights that were saved, without the rows that fill up") {
  QUIRE_FIXTURE(fp32, "models/tiny-char-llmc/model_fp32.bin");
  QUIRE_FIXTURE(bf16, "models/tiny-char-llmc/model_bf16.bin");
  const LlmcCheckpoint wide(fp32), narrow(bf16);
  CHECK(read_all(wide) == tiny_char());
  CHECK(read_all(narrow) == tiny_char(DType::bf16));
  REQUIRE(wide.config());
  CHECK(wide.config()->n_head == 4);
  CHECK(wide.config()->vocab_size == 1000);
  CHECK(wide.config()->eos_token_id == 999);
}

}  // namespace quire::test
