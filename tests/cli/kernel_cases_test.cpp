// The table of kernels: bytes and flops of GPT-2's shapes, worked out by hand.
#include "bench/kernel_cases.h"

#include <cmath>

#include "tests/support/catch.h"

using quire::DType;
using quire::KernelCase;
using quire::KernelShapes;

namespace {

// 64 rows of 1024 tokens: N = 65,536, N·C = 50,331,648.
KernelCase find(const char* name, DType dtype) {
  KernelShapes shapes;
  shapes.batch = 64;
  shapes.length = 1024;
  shapes.head_rows = 8192;
  shapes.dtype = dtype;
  for (const KernelCase& c : quire::kernel_cases(shapes)) {
    if (c.name == name) return c;
  }
  FAIL("no case " << name);
  return {};
}

}  // namespace

TEST_CASE("bytes and flops of kernels follow from GPT-2's shapes") {
  const double N = 65536, NC = 50331648;
  // x and out in two bytes, mean and rstd.
  CHECK(find("layernorm_forward", DType::bf16).bytes == 4 * NC + 8 * N);
  CHECK(find("layernorm_forward", DType::f32).bytes == 8 * NC + 8 * N);
  // x, weight [768, 3072], out and pre-activation [65536, 3072].
  const KernelCase fc = find("matmul_forward/fc", DType::f16);
  CHECK(fc.bytes == 2 * (NC + 768.0 * 3072 + 2 * N * 3072));
  CHECK(fc.flops == 2 * N * 768 * 3072 + 8 * N * 3072);
  // d_weight in float is read and written whatever the activations are.
  CHECK(find("matmul_backward_weight/proj", DType::bf16).bytes == 4 * NC + 8 * 768.0 * 768);
  // x·Aᵀ of rank 8, the adapter's B, and out [65536, 2304] read and written.
  CHECK(find("matmul_add/lora_qkv", DType::bf16).bytes == 2 * (N * 8 + 8 * 2304.0 + 2 * N * 2304));
  CHECK(find("matmul_add/lora_qkv", DType::bf16).flops == 2 * N * 8 * 2304);
  CHECK(find("matmul_forward/head", DType::bf16).flops == 2.0 * 8192 * 768 * 50257);
  // 64 rows of 12 heads: 524,800 pairs, each 2 products of 64 channels.
  CHECK(find("attention_forward", DType::bf16).flops == 64.0 * 12 * 524800 * 2 * 2 * 64);
  CHECK(find("attention_backward", DType::bf16).flops == 64.0 * 12 * 524800 * 5 * 2 * 64);
  // 1,023 cached keys and values a row; new ones are read beside the query and written.
  CHECK(find("attention_cached/length:1024", DType::bf16).bytes ==
        2.0 * 64 * 768 * (2 * 1023 + 3 + 2 + 1));
  CHECK(find("adamw", DType::f32).bytes == 28.0 * 124439808);
  // All but 121,344 are in matrices, which have a copy: 12 layers of 9,984 in biases and
  // layernorms, and ln_f's 1,536.
  CHECK(find("adamw", DType::bf16).bytes == 28.0 * 124439808 + 2.0 * (124439808 - 121344));
  CHECK(find("squared_norm", DType::bf16).bytes == 4.0 * 124439808);
}

TEST_CASE("columns behind the vocabulary are multiplied and written, and never read as logits") {
  KernelShapes shapes;
  shapes.batch = 64;
  shapes.length = 1024;
  shapes.head_rows = 16384;
  shapes.vocab_multiple = 128;
  shapes.dtype = DType::bf16;
  int seen = 0;
  for (const KernelCase& c : quire::kernel_cases(shapes)) {
    if (c.name == "matmul_forward/head") CHECK(c.flops == 2.0 * 16384 * 768 * 50304);
    if (c.name == "matmul_forward/one_row_head") CHECK(c.flops == 2.0 * 768 * 50257);
    if (c.name == "cross_entropy_forward") CHECK(c.bytes == 16384 * (2.0 * 50257 + 8));
    if (c.name == "cross_entropy_backward") CHECK(c.bytes == 16384 * (2.0 * (50257 + 50304) + 8));
    seen += c.name.ends_with("head") || c.name.starts_with("cross_entropy");
  }
  CHECK(seen == 6);
}

TEST_CASE("where products round their operands, they alone are cases, at the bytes of floats") {
  KernelShapes shapes;
  shapes.multiply = quire::Multiply::in_bf16;
  const std::vector<KernelCase> narrow = quire::kernel_cases(shapes);
  CHECK(narrow.size() == 16);  // five products, forward and both backward, and an adapter's
  for (const KernelCase& c : narrow) {
    INFO(c.name);
    CHECK(c.name.starts_with("matmul_"));
  }
  CHECK(narrow.front().bytes == 4.0 * (1024 * 768 + 768 * 2304 + 1024 * 2304));
}

TEST_CASE("products with weights in blocks read 34 or 18 bytes of 32 elements, of whole panels") {
  KernelShapes shapes;
  const std::size_t without = quire::kernel_cases(shapes).size();
  shapes.blocks = true;
  const std::vector<KernelCase> cases = quire::kernel_cases(shapes);
  CHECK(cases.size() == without + 8);
  int seen = 0;
  for (const KernelCase& c : cases) {
    if (!c.name.starts_with("matmul_forward/one_row_head_q")) continue;
    // 50,257 rows of 24 blocks, filled up to 50,272.
    CHECK(c.bytes == 4.0 * (768 + 50257) + 50272.0 * 24 * (c.name.ends_with("q8_0") ? 34 : 18));
    CHECK(c.flops == 2.0 * 768 * 50257);
    ++seen;
  }
  CHECK(seen == 2);
}

TEST_CASE("rows of a table are counted once, however often they are drawn") {
  // Of 50,257 rows 65,536 draws leave (1 - 1/50257)^65536 = 27.14 % out.
  const double rows = 50257 * (1 - std::pow(1 - 1.0 / 50257, 65536));
  CHECK(rows == Approx(0.7286 * 50257).epsilon(1e-4));
  CHECK(find("embedding_forward", DType::f32).bytes ==
        Approx(4 * (50331648 + 768 * (rows + 1024)) + 8 * 65536).epsilon(1e-9));
}
