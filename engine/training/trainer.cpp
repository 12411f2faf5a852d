#include "engine/training/trainer.h"

#include <optional>

#include "engine/training/run.h"

namespace quire {

TrainingResult train(Device& device, const Gpt2Config& model, const Parameters& parameters,
                     const TokenView& records, const TokenView& validation,
                     const TrainingConfig& config, const TrainingCallbacks& callbacks) {
  config.check();
  model.check();
  std::optional<Rows> rows, eval_rows;
  callbacks.ranks_or_one().agree([&] {
    const TrainingConfig settled = with_block_size(config, model);
    rows.emplace(rows_of(records, settled));
    eval_rows.emplace(rows_of(validation, settled));
  });
  return train(device, model, parameters, *rows, *eval_rows, config, callbacks);
}

TrainingResult train(Device& device, const Gpt2Config& model, const Parameters& parameters,
                     const Rows& rows, const Rows& validation, const TrainingConfig& config,
                     const TrainingCallbacks& callbacks) {
  config.check();
  model.check();
  try {
    std::optional<Run> run;
    callbacks.ranks_or_one().agree([&] {
      run.emplace(TrainedModel{.device = device,
                               .config = model,
                               .parameters = parameters,
                               .base_model = config.base_model,
                               .save_tables = config.save_tables},
                  rows, validation, config, callbacks);
    });
    return run->run();
  } catch (const std::filesystem::filesystem_error& error) {
    const bool full = error.code() == std::errc::no_space_on_device;
    throw Error(full ? Fault::no_space : Fault::bad_data,
                "cannot work in " + config.output_dir.string(), {error.what()});
  }
}

}  // namespace quire
