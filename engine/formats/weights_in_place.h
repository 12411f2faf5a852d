// Weights that are read where they lie in mapped files, laid out for decoding in memory of their own.
#pragma once

#include <cstddef>
#include <memory>
#include <mutex>
#include <vector>

#include "engine/formats/source.h"
#include "engine/model/laid_out_weights.h"
#include "kernels/device.h"

namespace quire {

/// A file is read as it lies, so that the first token need not wait. But as it lies few rows are not
/// multiplied by it at the speed of memory (Device::layout_to_decode), and its pages are small: prefetchers
/// stop at the end of each. So each step of decoding lays out a part: the first dozen tokens take longer,
/// those that follow are faster. What is laid out is let go of in the file's mapping, and no
/// longer shared with other processes.
class WeightsInPlace {
 public:
  /// What fits the caches of a processor is left where it is.
  static constexpr std::size_t kWorthIt = std::size_t{32} << 20;
  /// `laid_out` is filled; it must not be read after this object's end.
  explicit WeightsInPlace(std::shared_ptr<LaidOutWeights> laid_out, std::size_t worth_it = kWorthIt)
      : laid_out_(std::move(laid_out)), worth_it_(worth_it) {}

  /// Entry `index` of parameter_list(), before the first step: plain elements that are read where they
  /// lie in a file, and how they are to be laid out.
  void add(const FileTensor& tensor, const Weight& stored, WeightLayout layout, std::size_t index);
  /// Lays out a sixteenth or more, in whole matrices, until all is done. Nothing where there is too
  /// little, or where the machine has not twice the memory free that this takes. From any thread that
  /// may use the device.
  void step(Device& device);

 private:
  struct Matrix {
    std::shared_ptr<const MappedFile> file;
    std::size_t first, last;  // bytes of it
    Weight stored;
    WeightLayout layout;
    std::size_t index;

    Weight laid_out(const void* data) const {
      return {data, stored.format, layout, {stored.in(), stored.out()}};
    }
  };
  void begin(Device& device);
  /// Bytes.
  std::size_t lay_out(Device& device, const Matrix& matrix);

  std::shared_ptr<LaidOutWeights> laid_out_;
  std::size_t worth_it_;
  std::mutex busy_;
  bool begun_ = false;
  std::vector<Matrix> left_;  // the next is the last
  std::size_t a_step_ = 0;    // bytes
  Buffer memory_;
  std::size_t used_ = 0;  // of it, by those that are done
};

}  // namespace quire
