// A model together with what transformers computes with it: the small set in tests/data, where both
// lie in one folder, and the large fixtures, where they lie in two.
#pragma once

#include <cmath>
#include <filesystem>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/json.h"
#include "engine/formats/hub_folder.h"
#include "engine/formats/safetensors.h"
#include "engine/model/gpt2.h"
#include "kernels/cuda/cuda_device.h"
#include "kernels/open_device.h"
#include "kernels/reference/reference_device.h"
#include "tests/support/catch.h"
#include "tests/support/compare.h"
#include "tests/support/devices.h"
#include "tests/support/fixtures.h"

namespace quire::test {

inline const std::vector<std::string> kDevices = {"reference", "cpu", kCudaDevice};

inline std::unique_ptr<Device> open_test_device(const std::string& name, int threads = 0) {
  if (name == "reference") return open_reference_device();
  if (name == kCudaDevice) return open_cuda_device(0, {.on_trial = true});
  return open_device(name, {.threads = threads});
}

inline std::vector<float> to_host(Device& device, const ConstView& view) {
  std::vector<float> values(static_cast<std::size_t>(view.count()));
  device.copy_to_host(values.data(), view.bytes(), view.size_bytes());
  return values;
}

/// How far another float32 program may lie from the float64 result. tolerance.json holds `error`,
/// the largest error over a tensor of one float32 program. Another order of summation is another
/// draw of the same rounding errors, so its largest error is of the same size: 4 times covers it.
/// Where that one program was lucky (a single number, say) the error of the last few operations
/// remains: 8 units in the last place of the largest value.
inline double bound_of(double error, double largest) {
  return 4 * error + 8 * kEps * largest;
}

/// Checks every element and reports the worst.
template <class Keep>
void check_close_where(const std::string& what, std::span<const float> got,
                       std::span<const float> want, double bound, const Keep& keep) {
  REQUIRE(got.size() == want.size());
  std::size_t worst = 0;
  double largest = -1;
  for (std::size_t i = 0; i < got.size(); ++i) {
    if (!keep(i)) continue;
    const double error = std::abs(static_cast<double>(got[i]) - static_cast<double>(want[i]));
    if (error <= largest) continue;  // a NaN goes on, and stays
    largest = error;
    worst = i;
    if (std::isnan(error)) break;
  }
  INFO(what << ": worst at " << worst << ": " << got[worst] << ", expected " << want[worst]
            << ", error " << largest << ", bound " << bound);
  CHECK(largest <= bound);
}

inline void check_close(const std::string& what, std::span<const float> got,
                        std::span<const float> want, double bound) {
  check_close_where(what, got, want, bound, [](std::size_t) { return true; });
}

inline double largest_magnitude(std::span<const float> values) {
  double largest = 0;
  for (const float value : values)
    largest = std::max(largest, std::abs(static_cast<double>(value)));
  return largest;
}

/// One model on one device, and the files beside it.
struct ModelCase {
  std::filesystem::path folder;
  std::unique_ptr<Device> device;
  LoadedModel model;
  nlohmann::json tolerance;

  ModelCase(const std::filesystem::path& model_folder, const std::filesystem::path& results_folder,
            const std::string& device_name, int threads = 0)
      : folder(results_folder),
        device(open_test_device(device_name, threads)),
        model(load_model(*device, model_folder, WeightStorage::f32)),
        tolerance(json("tolerance.json")) {}

  nlohmann::json json(const std::string& name) const {
    return parse_json<nlohmann::json>(read_file(folder / name));
  }
};

inline ModelCase small_case(const std::string& name, const std::string& device, int threads = 0) {
  return ModelCase(test_data(name), test_data(name), device, threads);
}
inline ModelCase fixture_case(const std::string& name, const std::string& device, int threads = 0) {
  return ModelCase(fixtures_root() / "models" / name, fixtures_root() / "fixtures" / name, device,
                   threads);
}

inline const std::vector<std::string> kSmallModels = {"tied", "untied"};
inline const std::vector<std::string> kFixtureModels = {
    "tiny-char", "odd-tied", "odd-untied", "odd-inverse-layer",
    "odd-gelu",  "odd-relu", "odd-inner"};

/// A tensor of a results file.
template <class T>
std::vector<T> read_tensor(const Safetensors& file, const std::string& name) {
  const FileTensor* tensor = file.find(name);
  INFO(file.path().string() << ": " << name);
  REQUIRE(tensor != nullptr);
  const ConstView view = tensor->view();
  return {view.data<T>(), view.data<T>() + view.count()};
}

/// The batch of forward.safetensors.
struct ForwardBatch {
  std::vector<std::int32_t> ids, targets;
  int batch, length;

  explicit ForwardBatch(const Safetensors& file)
      : ids(read_tensor<std::int32_t>(file, "ids")),
        targets(read_tensor<std::int32_t>(file, "targets")),
        batch(static_cast<int>(file.find("ids")->shape[0])),
        length(static_cast<int>(file.find("ids")->shape[1])) {}

  TokenBatch view() const {
    return {.batch = batch, .length = length, .ids = ids, .targets = targets};
  }
  /// Row `row` alone.
  TokenBatch row(int row) const {
    const std::size_t first = static_cast<std::size_t>(row) * static_cast<std::size_t>(length);
    const std::span<const std::int32_t> all_ids(ids), all_targets(targets);
    return {.batch = 1,
            .length = length,
            .ids = all_ids.subspan(first, static_cast<std::size_t>(length)),
            .targets = all_targets.subspan(first, static_cast<std::size_t>(length))};
  }
};

}  // namespace quire::test
