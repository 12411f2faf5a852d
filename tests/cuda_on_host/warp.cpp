#include "tests/cuda_on_host/warp.h"

#include "kernels/tensor.h"
#include "tests/cuda_on_host/sanitizers.h"

namespace quire::cuda_on_host {
namespace {

constexpr int kLanes = 32;
constexpr unsigned kWholeWarp = 0xffffffffu;

struct ShuffleOperand {
  Shuffle kind;
  int argument, width;
  std::uint64_t value, result;
};

void combine_shuffle(void* const operands[32]) {
  for (int lane = 0; lane < kLanes; ++lane) {
    auto* self = static_cast<ShuffleOperand*>(operands[lane]);
    if (self == nullptr) continue;
    const int first = lane / self->width * self->width;
    int source = lane;
    switch (self->kind) {
      case Shuffle::index:
        source = first + (self->argument & (self->width - 1));
        break;
      case Shuffle::up:
        source = lane - self->argument;
        break;
      case Shuffle::exclusive_or:
        source = lane ^ self->argument;
        break;
    }
    if (source < first || source >= first + self->width) source = lane;
    const auto* from = static_cast<const ShuffleOperand*>(operands[source]);
    self->result = from != nullptr ? from->value : ~std::uint64_t{0};
  }
}

struct BallotOperand {
  bool predicate;
  unsigned result;
};

void combine_ballot(void* const operands[32]) {
  unsigned votes = 0;
  for (int lane = 0; lane < kLanes; ++lane) {
    const auto* operand = static_cast<const BallotOperand*>(operands[lane]);
    if (operand != nullptr && operand->predicate) votes |= 1u << lane;
  }
  for (int lane = 0; lane < kLanes; ++lane) {
    if (operands[lane] != nullptr) static_cast<BallotOperand*>(operands[lane])->result = votes;
  }
}

struct MatricesOperand {
  const std::uint32_t* row;
  std::uint32_t* matrices;
  bool transposed;
};

void combine_matrices(void* const operands[32]) {
  const auto element = [&](int matrix, int row, int column) {
    const auto* operand = static_cast<const MatricesOperand*>(operands[8 * matrix + row]);
    return operand == nullptr ? 0xffffu : operand->row[column / 2] >> 16 * (column % 2) & 0xffffu;
  };
  for (int lane = 0; lane < kLanes; ++lane) {
    auto* self = static_cast<MatricesOperand*>(operands[lane]);
    if (self == nullptr) continue;
    const int major = lane / 4, minor = lane % 4 * 2;
    for (int m = 0; m < 4; ++m) {
      self->matrices[m] = self->transposed
                              ? element(m, minor, major) | element(m, minor + 1, major) << 16
                              : element(m, major, minor) | element(m, major, minor + 1) << 16;
    }
  }
}

struct MmaOperand {
  MmaType type;
  float* d;
  const std::uint32_t* a;
  const std::uint32_t* b;
  const float* c;
};

float half_of(std::uint32_t pair, int which, MmaType type) {
  const auto bits = static_cast<std::uint16_t>(pair >> 16 * which);
  return type == MmaType::f16 ? to_float(Half{bits}) : to_float(BFloat16{bits});
}

void combine_mma(void* const operands[32]) {
  const auto of = [&](int lane) { return static_cast<const MmaOperand*>(operands[lane]); };
  for (int lane = 0; lane < kLanes; ++lane) {
    if (of(lane) == nullptr) return;  // the block's report names the lane that is missing
  }
  const MmaType type = of(0)->type;
  constexpr int kDepth = 16;
  float a[16][kDepth], b[kDepth][8];
  for (int lane = 0; lane < kLanes; ++lane) {
    const int group = lane / 4, place = lane % 4;
    for (int i = 0; i < 8; ++i) {
      a[group + i / 2 % 2 * 8][2 * place + i % 2 + i / 4 * 8] =
          half_of(of(lane)->a[i / 2], i % 2, type);
    }
    for (int i = 0; i < 4; ++i) {
      b[2 * place + i % 2 + i / 2 * 8][group] = half_of(of(lane)->b[i / 2], i % 2, type);
    }
  }
  float sums[kLanes][4];
  for (int lane = 0; lane < kLanes; ++lane) {
    for (int i = 0; i < 4; ++i) {
      const int row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
      float sum = 0.0f;
      for (int k = 0; k < kDepth; ++k) sum += a[row][k] * b[k][column];
      sums[lane][i] = sum + of(lane)->c[i];
    }
  }
  for (int lane = 0; lane < kLanes; ++lane) {  // d may be c
    for (int i = 0; i < 4; ++i) of(lane)->d[i] = sums[lane][i];
  }
}

}  // namespace

void thread_fence() {
  static char fence = 0;
  acquire(&fence);
  release(&fence);
}

void sync_warp(Site site, unsigned mask) {
  char nothing = 0;
  warp_wide("__syncwarp", mask, site, &nothing, kSynchronizes);
}

std::uint64_t shuffle(Site site, Shuffle kind, unsigned mask, std::uint64_t value, int argument,
                      int width) {
  ShuffleOperand operand{kind, argument, width, value, 0};
  warp_wide("a shuffle", mask, site, &operand, combine_shuffle);
  return operand.result;
}

unsigned ballot(Site site, unsigned mask, bool predicate) {
  BallotOperand operand{predicate, 0};
  warp_wide("a vote", mask, site, &operand, combine_ballot);
  return operand.result;
}

void gather_matrices(Site site, const std::uint32_t row[4], std::uint32_t matrices[4],
                     bool transposed) {
  MatricesOperand operand{row, matrices, transposed};
  warp_wide("ldmatrix", kWholeWarp, site, &operand, combine_matrices);
}

void mma(Site site, MmaType type, float d[4], const std::uint32_t a[4], const std::uint32_t b[2],
         const float c[4]) {
  MmaOperand operand{type, d, a, b, c};
  warp_wide("mma", kWholeWarp, site, &operand, combine_mma);
}

}  // namespace quire::cuda_on_host
