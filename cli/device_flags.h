// --device, --threads and --autotune, for commands that compute; --dtype of those that train.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "cli/flags.h"
#include "kernels/device.h"

namespace quire {

enum class WeightStorage;

/// --dtype, for commands that read a model and do not train it.
void add_storage(Flags& flags, WeightStorage& storage);

/// --dtype and --bf16, for commands that train: what products compute in.
struct ProductFlags {
  std::optional<DType> dtype = DType::f32;  ///< float32 or bfloat16; empty: as the device can

  void add_to(Flags& flags);
  /// After parsing, before the device is open.
  void finish(const Flags& flags);
  bool automatic() const { return !dtype; }
  /// What there was to choose is chosen. Throws Error(device) where the device cannot.
  DType choose(const Device& device);

 private:
  bool bf16_ = false;
};

struct DeviceFlags {
  std::string device = "auto";
  int threads = 0;
  bool autotune = false;
  bool on_trial = false;  ///< no option: for what verifies the device

  void add_to(Flags& flags);
  /// Of several processes on a machine each takes the card of its number,
  /// or its share of the cores.
  std::unique_ptr<Device> open(int local_rank = 0, int local_size = 1) const;
};

}  // namespace quire
