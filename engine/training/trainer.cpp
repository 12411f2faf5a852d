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
  (callbacks.ranks ? *callbacks.ranks : one_rank()).agree([&] {
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
  Ranks& ranks = callbacks.ranks ? *callbacks.ranks : one_rank();
  try {
    std::optional<Run> run;
    ranks.agree([&] {
      run.emplace(RunInputs{.device = device,
                            .model = model,
                            .parameters = parameters,
                            .rows = rows,
                            .validation = validation,
                            .config = config,
                            .callbacks = callbacks,
                            .ranks = ranks});
    });
    return run->run();
  } catch (const std::filesystem::filesystem_error& error) {
    const bool full = error.code() == std::errc::no_space_on_device;
    throw Error(full ? Fault::no_space : Fault::bad_data,
                "cannot work in " + config.output_dir.string(), {error.what()});
  }
}

}  // namespace quire
