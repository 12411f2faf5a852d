#include "engine/formats/llmc_checkpoint.h"

#include "tests/engine/formats/checkpoints.h"
#include "tests/engine/formats/tiny_char.h"
#include "tests/support/scratch.h"

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

TEST_CASE("a checkpoint of llm.c whose header does not fit it is refused with the number") {
  const ScratchFolder folder;
  const auto refusal = [&](const std::string& bytes) {
    const auto path = folder.write("x.bin", bytes);
    return folder.message_of(Fault::bad_data, [&] { const LlmcCheckpoint file(path); });
  };
  const std::string start = "error: DIR/x.bin is not a usable checkpoint of llm.c\n  ";
  const LlmcCheckpoint good(folder.write("good.bin", llmc_file()));
  CHECK(good.config_origin() == "header");
  CHECK(good.find("wte.weight")->shape == std::vector<std::int64_t>{3, 2});
  CHECK(good.find("wpe.weight")->read_weight() == std::vector<float>{8, 9, 10, 11});
  CHECK(good.find("h.0.attn.c_attn.weight")->read_weight()[1] == 18.0f);  // [2, 6] of [6, 2]
  CHECK(refusal("x").starts_with(start + "it does not begin with 20240326"));
  CHECK(refusal(llmc_file().substr(0, 1000)).starts_with(start + "it ends inside its header"));
  const auto with = [&](std::size_t field, std::int32_t number) {
    std::vector<std::int32_t> header = {20240326, 3, 2, 3, 1, 1, 2, 4};
    header[field] = number;
    return refusal(llmc_file(header));
  };
  CHECK(with(1, 4).starts_with(start + "its version is 4; read are 3 (float32) and 5 (bfloat16)"));
  CHECK(
      with(3, 0).starts_with("error: config: vocab_size is 0\n  DIR/x.bin: what its header says"));
  CHECK(with(4, 16384).starts_with(start + "tensor 'h.39.ln_1.weight' of F32 [2] lies behind"));
  CHECK(with(5, 3).starts_with("error: config: n_head is 3"));
  CHECK(
      with(6, 1 << 20).starts_with(start + "tensor 'wte.weight' of F32 [4, 1048576] lies behind"));
  CHECK(with(7, 2).starts_with(start + "its vocabulary of 3 is filled up to 2"));
  CHECK(with(7, INT32_MAX).starts_with(start + "tensor 'wte.weight' of F32 [2147483647, 2] lies"));
  CHECK(with(2, 1).starts_with(start + "8 bytes follow the last tensor"));
}

}  // namespace quire::test
