#include "engine/formats/torch_checkpoint.h"

#include "tests/engine/formats/tiny_char.h"

namespace quire::test {

TEST_CASE("checkpoints of PyTorch hold the weights that were saved, in both forms") {
  QUIRE_FIXTURE(zip, "models/tiny-char-formats/bin-zip/pytorch_model.bin");
  QUIRE_FIXTURE(legacy, "models/tiny-char-formats/bin-legacy/pytorch_model.bin");
  const TorchCheckpoint archive(zip);
  CHECK(read_all(archive) == tiny_char());
  CHECK(archive.find("lm_head.weight")->bytes.data() ==
        archive.find("transformer.wte.weight")->bytes.data());
  const TorchCheckpoint row(legacy);
  CHECK(read_all(row) == tiny_char(DType::f16));
  CHECK(row.find("h.0.attn.bias")->dtype_name == "U8");
}

}  // namespace quire::test
