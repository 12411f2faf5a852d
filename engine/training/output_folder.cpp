#include "engine/training/output_folder.h"

#include <fcntl.h>
#include <sys/file.h>

#include <cerrno>
#include <cstring>

#include "engine/training/checkpoint.h"
#include "engine/training/log_files.h"

namespace quire {

namespace fs = std::filesystem;

namespace {

int open_made(const fs::path& folder) {
  make_folder(folder);
  const int descriptor = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor >= 0) return descriptor;
  throw Error(Fault::bad_data, "cannot open the output folder " + folder.string(),
              {std::strerror(errno)});
}

}  // namespace

OutputFolder::OutputFolder(const TrainingConfig& config)
    : path_(config.output_dir), descriptor_(open_made(path_)) {
  // File systems without locks (some network mounts) answer with an error other than "held".
  if (::flock(descriptor_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
    throw Error(Fault::usage, "another run is writing into " + path_.string(), {},
                "another `output_dir`, or wait for that run to end"_named);
  }
  check_unused(config);
}

void OutputFolder::check_unused(const TrainingConfig& config) {
  const fs::path& path = config.output_dir;
  if (!config.resume_from_checkpoint.empty() || config.overwrite_output_dir) return;
  if (!fs::is_directory(path) || fs::is_empty(path)) return;
  throw Error(Fault::usage, "the output folder " + path.string() + " is not empty", {},
              checkpoint_steps(path).empty()
                  ? "another `output_dir`, or `overwrite_output_dir`"_named
                  : "`resume_from_checkpoint` latest to go on, or `overwrite_output_dir`"_named);
}

void OutputFolder::clear_earlier_run(const TrainingConfig& config) {
  for (const std::int64_t step : checkpoint_steps(path_)) {
    fs::remove_all(path_ / checkpoint_name(step));
  }
  for (const char* log : {JsonlLog::kFileName, CsvLog::kFileName}) fs::remove(path_ / log);
  // Of a model and an adapter in one folder only one would be found.
  const bool adapter = config.lora.r > 0 && !config.lora_merge;
  const std::vector<std::string> others =
      adapter
          ? std::vector<std::string>{"config.json", "generation_config.json", "model.safetensors"}
          : std::vector<std::string>{"adapter_config.json", "adapter_model.safetensors"};
  for (const std::string& name : others) fs::remove(path_ / name);
}

}  // namespace quire
