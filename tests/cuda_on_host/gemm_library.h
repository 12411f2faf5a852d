// What tests can ask of gemm_library.cpp.
#pragma once

namespace quire::cuda_on_host {

/// Devices opened while one of these lives have a library that refuses every epilogue but the bias,
/// as cuBLASLt may for a shape, a type or a card.
class WithoutEpilogues {
 public:
  WithoutEpilogues();
  ~WithoutEpilogues();
  WithoutEpilogues(const WithoutEpilogues&) = delete;
  WithoutEpilogues& operator=(const WithoutEpilogues&) = delete;
};

}  // namespace quire::cuda_on_host
