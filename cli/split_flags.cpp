#include "cli/split_flags.h"

#include <filesystem>
#include <utility>

#include "base/error.h"
#include "cli/corpus_flags.h"
#include "cli/train_flags.h"
#include "pipeline/model_path.h"

namespace quire {

namespace fs = std::filesystem;

void SplitFlags::add_to(Flags& flags, const std::string& help) {
  flags.add_choice("split", split, {"none", "validation", "train"}, help);
  flags.add("run", run, "DIR", "the training run that --split is of, if not that of --model");
}

TrainedRun SplitFlags::read(const std::string& model, const std::vector<std::string>& data) const {
  const std::string& named = run.empty() ? model : run;
  const fs::path folder = resolve_model(named);
  const fs::path config =
      (fs::is_directory(folder) ? folder : folder.parent_path()) / "quire_config.json";
  if (!fs::exists(config)) {
    throw Error(Fault::usage, "--split is of a training run, and " + named + " is none",
                {"there is no " + config.string() + ", which quire train writes"},
                "--run DIR, the output folder of a run");
  }
  TrainFlags options;
  Flags flags("train", "", "");
  options.add_to(flags);
  if (!flags.parse({"--config-file=" + config.string(), "--output-dir=" + folder.string()})) {
    throw Error(Fault::internal, "the options of a run ask for help");
  }
  if (!data.empty()) options.corpus.paths = data;
  options.finish(flags);
  // What cleaning did was told when it was trained.
  return {named, split == "validation", std::move(options),
          data_callbacks(/*tell_cleaning=*/false)};
}

}  // namespace quire
