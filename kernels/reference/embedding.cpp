// Token and position embeddings: a row of one table plus a row of the other.
#include "kernels/quantised.h"
#include "kernels/reference/formulas.h"
#include "kernels/reference/reference_device.h"

namespace quire::reference {
namespace {

/// One element of a table of any float type; tables are too large to be widened whole.
double element(const ConstView& table, std::int64_t index) {
  if (table.dtype() == DType::f16) return to_float(table.data<Half>()[index]);
  if (table.dtype() == DType::bf16) return to_float(table.data<BFloat16>()[index]);
  return table.data<float>()[index];
}

}  // namespace

void ReferenceDevice::do_embedding_forward(const EmbeddingForward& p) {
  const auto ids = reference::ids(p.ids), positions = reference::ids(p.positions);
  const std::int64_t C = p.out.shape()[2];
  float* out = p.out.data<float>();
  std::vector<float> token(static_cast<std::size_t>(C));
  for (std::size_t bt = 0; bt < ids.size(); ++bt) {
    if (in_blocks(p.wte.format)) {
      read_row(p.wte, ids[bt], token.data());
    } else {
      for (std::int64_t c = 0; c < C; ++c) token[c] = element(p.wte.view(), ids[bt] * C + c);
    }
    for (std::int64_t c = 0; c < C; ++c) {
      *out++ = static_cast<float>(static_cast<double>(token[static_cast<std::size_t>(c)]) +
                                  element(p.wpe, positions[bt] * C + c));
    }
  }
}

void ReferenceDevice::do_embedding_backward(const EmbeddingBackward& p) {
  const auto ids = reference::ids(p.ids), positions = reference::ids(p.positions);
  const std::int64_t C = p.d_out.shape()[2];
  const float* d_out = p.d_out.data<float>();
  float* d_wte = p.d_wte.view.data<float>();
  float* d_wpe = p.d_wpe.view.data<float>();
  // Added one by one in float, not in double: ops.h promises the order, so the bits are defined.
  for (std::size_t bt = 0; bt < ids.size(); ++bt) {
    for (std::int64_t c = 0; c < C; ++c, ++d_out) {
      d_wte[ids[bt] * C + c] += *d_out;
      d_wpe[positions[bt] * C + c] += *d_out;
    }
  }
}

}  // namespace quire::reference
