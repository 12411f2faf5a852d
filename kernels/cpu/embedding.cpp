// Embedding: rows of two tables added up, and the gradients scattered back.
#include <algorithm>

#include "kernels/cpu/device.h"
#include "kernels/quantised.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/embedding.cpp"
#include "hwy/foreach_target.h"
#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace quire::cpu::HWY_NAMESPACE {
namespace {

template <class Token, class Position>
void add_rows(const EmbeddingForward& p, ThreadPool& pool) {
  const std::int32_t* ids = p.ids.data<std::int32_t>();
  const std::int32_t* positions = p.positions.data<std::int32_t>();
  const Token* wte = p.wte.view().data<Token>();
  const Position* wpe = p.wpe.data<Position>();
  float* out = p.out.data<float>();
  const std::int64_t C = p.wte.shape[1];
  const std::int64_t rows = std::max<std::int64_t>(1, 16384 / C);  // of a task
  pool.run_pieces(p.ids.count(), rows, [&](std::int64_t first, std::int64_t length) HWY_ATTR {
    for (std::int64_t n = first; n < first + length; ++n) {
      const Token* token = wte + ids[n] * C;
      const Position* position = wpe + positions[n] * C;
      for_vectors(C, [&](std::int64_t c, std::int64_t count) QUIRE_INLINE_LAMBDA {
        store(hn::Add(load(token + c, count), load(position + c, count)), out + n * C + c, count);
      });
    }
  });
}

/// The token's row is unpacked where the sum will be.
template <class Position>
void add_rows_of_blocks(const EmbeddingForward& p, ThreadPool& pool) {
  const std::int32_t* ids = p.ids.data<std::int32_t>();
  const std::int32_t* positions = p.positions.data<std::int32_t>();
  const Position* wpe = p.wpe.data<Position>();
  float* out = p.out.data<float>();
  const std::int64_t C = p.wte.shape[1];
  const std::int64_t rows = std::max<std::int64_t>(1, 4096 / C);  // of a task
  pool.run_pieces(p.ids.count(), rows, [&](std::int64_t first, std::int64_t length) HWY_ATTR {
    for (std::int64_t n = first; n < first + length; ++n) {
      float* row = out + n * C;
      read_row(p.wte, ids[n], row);
      const Position* position = wpe + positions[n] * C;
      for_vectors(C, [&](std::int64_t c, std::int64_t count) QUIRE_INLINE_LAMBDA {
        store(hn::Add(load(row + c, count), load(position + c, count)), row + c, count);
      });
    }
  });
}

void embedding_forward(const EmbeddingForward& p, ThreadPool& pool) {
  if (in_blocks(p.wte.format)) {
    dispatch(p.wpe.dtype(),
             [&]<class Position>() HWY_ATTR { add_rows_of_blocks<Position>(p, pool); });
    return;
  }
  dispatch(p.wte.dtype(), [&]<class Token>() HWY_ATTR {
    dispatch(p.wpe.dtype(), [&]<class Position>() HWY_ATTR { add_rows<Token, Position>(p, pool); });
  });
}

// The tasks are blocks of columns: within its own, each adds all rows in their order, so that rows
// of one token never meet across threads.
void embedding_backward(const EmbeddingBackward& p, ThreadPool& pool) {
  const std::int32_t* ids = p.ids.data<std::int32_t>();
  const std::int32_t* positions = p.positions.data<std::int32_t>();
  const float* d_out = p.d_out.data<float>();
  float* d_wte = p.d_wte.view.data<float>();
  float* d_wpe = p.d_wpe.view.data<float>();
  const std::int64_t C = p.d_wte.view.shape()[1];
  const std::int64_t N = p.ids.count();
  constexpr std::int64_t kColumns = 64;  // four cache lines of each row
  pool.run_pieces(C, kColumns, [&](std::int64_t first, std::int64_t length) HWY_ATTR {
    for (std::int64_t n = 0; n < N; ++n) {
      const float* gradient = d_out + n * C + first;
      float* token = d_wte + ids[n] * C + first;
      float* position = d_wpe + positions[n] * C + first;
      for_vectors(length, [&](std::int64_t i, std::int64_t count) QUIRE_INLINE_LAMBDA {
        const Vec g = load(gradient + i, count);
        store(hn::Add(load(token + i, count), g), token + i, count);
        store(hn::Add(load(position + i, count), g), position + i, count);
      });
    }
  });
}

}  // namespace
}  // namespace quire::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace quire::cpu {

QUIRE_CPU_OP(embedding_forward, EmbeddingForward)
QUIRE_CPU_OP(embedding_backward, EmbeddingBackward)

}  // namespace quire::cpu
#endif  // HWY_ONCE
