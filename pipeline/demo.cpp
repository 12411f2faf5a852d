#include "pipeline/demo.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "base/file.h"
#include "pipeline/model_path.h"
#include "pipeline/model_tokenizer.h"
#include "pipeline/resources.h"
#include "pipeline/train_samples.h"

namespace quire {
namespace fs = std::filesystem;

namespace {

// A folder with this file in it was made by the demo, and may be made again.
constexpr const char* kMarker = "quire-demo.json";

}  // namespace

fs::path find_quotes() {
  const fs::path quotes = find_resource("samples/quotes.csv");
  if (!quotes.empty()) return quotes;
  std::vector<std::string> looked;
  for (const fs::path& folder : resource_folders()) {
    looked.push_back("not in " + (folder / "samples").string());
  }
  throw Error(Fault::bad_data, "samples/quotes.csv, which comes with Quire, is not there",
              std::move(looked), "QUIRE_DATA=FOLDER quire demo, where FOLDER holds samples/");
}

void check_demo_folder(const fs::path& folder, bool overwrite) {
  check_writable(folder);
  std::error_code trouble;
  if (overwrite || !fs::exists(folder, trouble) || fs::exists(folder / kMarker, trouble) ||
      fs::is_empty(folder, trouble)) {
    return;
  }
  throw Error(Fault::usage, folder.string() + " is not empty and was not made by quire demo", {},
              "another `output_dir`, or `overwrite_output_dir`"_named);
}

Demo::Demo(Device& device, const fs::path& model, std::optional<Quantisation> writes_in)
    : device_(device),
      model_(load_resolved(device, model, WeightStorage::f32)),
      writes_in_(writes_in),
      tokenizer_(tokenizer_of(model)) {
  if (writes_in) check_quantised(device, model_.config, *writes_in);
}

void Demo::read(TrainOptions& options, const DataCallbacks& callbacks) {
  data_ = load_train_data(options, tokenizer_, callbacks);
  const std::int64_t steps = total_steps(options.training, train_records());
  options.training.logging_steps = std::max<std::int64_t>(steps / 8, 1);
  options.training.eval_steps = (steps + 3) / 4;  // rounded up: none just before the last
}

std::vector<TextSample> Demo::texts(std::uint64_t seed,
                                    const std::function<bool()>& stop_requested) const {
  const TrainSamples samples(device_, model_.config, tokenizer_,
                             {"The wind", "I will", "My friend,"}, seed);
  if (!writes_in_) return samples.make(model_.parameters, stop_requested);
  return samples.make(quantised(device_, model_.config, model_.parameters, *writes_in_),
                      stop_requested);
}

TrainingResult Demo::fine_tune(TrainingConfig config, TrainingCallbacks callbacks) const {
  config.overwrite_output_dir = true;  // the mark is there
  make_folder(config.output_dir);
  write_file(config.output_dir / kMarker,
             fmt::format("{{\"made_by\": \"quire demo\", \"steps\": {}, \"seed\": {}}}\n",
                         total_steps(config, train_records()), config.seed));
  callbacks.write_companions = [this, others = callbacks.write_companions](const fs::path& folder) {
    tokenizer_.save(folder, model_.config.n_positions);
    if (others) others(folder);
  };
  return train(device_, model_.config, model_.parameters, data_.train, data_.validation, config,
               callbacks);
}

}  // namespace quire
