// Two files or folders of weights, tensor by tensor, whatever their formats and types.
#pragma once

#include <string>
#include <vector>

#include "engine/formats/source.h"
#include "pipeline/tensor_values.h"

namespace quire {

/// Tensors go by bare name, in Hugging Face's shapes; masks of old versions of transformers are
/// passed over. A head that one of both stores is held against the other's wte.weight, to which it
/// is tied.
struct Comparison {
  struct Pair {
    std::string name;
    const FileTensor *a, *b;
    TensorDifference difference;
  };
  struct Unlike {
    std::string name;
    std::string a, b;  ///< "F32 [2, 33]"
  };
  std::vector<Pair> pairs;  ///< in a's order
  std::vector<std::string> only_in_a, only_in_b;
  std::vector<Unlike> unlike;  ///< of other shapes, or of types that have no values

  const Pair* worst() const;  ///< that of the largest difference; nullptr: no pair differs
  /// No tensor is in one alone or unlike, and no difference is larger.
  bool is_within(double tolerance) const;
};

/// Reads all values. Keeps pointers into both.
Comparison compare_models(const TensorSource& a, const TensorSource& b,
                          const ReadingOptions& options = {});

}  // namespace quire
