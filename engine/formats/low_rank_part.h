// The parts of a weight that PEFT takes out of it when an adapter begins with them.
#pragma once

#include <cstdint>
#include <vector>

namespace quire {

/// weight [rows, columns] -= its best approximation of rank r: PiSSA (Meng et al., 2024). By
/// iteration of a subspace (Golub and Van Loan, Matrix Computations, 8.2), in double. False,
/// and the weight as it was, where the r-th singular value and the next are too close to tell.
bool remove_principal_part(std::vector<float>& weight, std::size_t rows, std::size_t columns,
                           std::size_t r);

/// weight -= scale·Q·R of the first r columns of its QR decomposition: OLoRA (Büyükakyüz, 2024).
/// False where these columns are not independent.
bool remove_first_columns(std::vector<float>& weight, std::size_t rows, std::size_t columns,
                          std::size_t r, float scale);

}  // namespace quire
