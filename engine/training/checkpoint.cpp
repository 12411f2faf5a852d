#include "engine/training/checkpoint.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>
#include <string_view>

#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include "engine/formats/adapter_folder.h"
#include "engine/formats/hub_folder.h"
#include "engine/formats/safetensors.h"

namespace quire {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr std::string_view kPrefix = "checkpoint-";
constexpr std::string_view kSaving = ".saving-";
constexpr std::string_view kRemoving = ".removing-";
constexpr const char* kState = "trainer_state.json";
constexpr const char* kMoments = "optimizer.safetensors";
constexpr const char* kModelWeights = "model.safetensors";
constexpr const char* kAdapterWeights = "adapter_model.safetensors";
constexpr int kStateVersion = 1;

/// STEP of "checkpoint-STEP", or nothing for other names.
std::optional<std::int64_t> step_of(std::string_view name) {
  if (name.substr(0, kPrefix.size()) != kPrefix) return std::nullopt;
  name.remove_prefix(kPrefix.size());
  std::int64_t step = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), step);
  if (error != std::errc() || end != name.data() + name.size() || step < 0) return std::nullopt;
  return step;
}

/// "NAME.tmp-PID": a file that AtomicFile was writing when the process was killed.
bool is_temporary(std::string_view name) {
  const std::size_t mark = name.rfind(".tmp-");
  return mark != std::string_view::npos && mark + 5 < name.size() &&
         name.find_first_not_of("0123456789", mark + 5) == std::string_view::npos;
}

bool is_complete(const fs::path& folder) {
  return fs::exists(folder / kState) && fs::exists(folder / kMoments) &&
         (fs::exists(folder / kModelWeights) || fs::exists(folder / kAdapterWeights));
}

/// A folder that is renamed out of sight before its files go, so that no half of it is ever found.
void remove_folder(const fs::path& folder) {
  fs::path hidden = folder.parent_path() / (std::string(kRemoving) + folder.filename().string());
  fs::remove_all(hidden);
  fs::rename(folder, hidden);
  fs::remove_all(hidden);
}

/// Fills `to` from element `first` on of the file's tensor of that name,
/// which must have that shape.
void load_values(Device& device, const TensorSource& file, const std::string& name,
                 const Shape& shape, std::int64_t first, const View& to) {
  const FileTensor* tensor = file.find(name);
  if (tensor == nullptr) {
    throw Error(Fault::bad_data, fmt::format("{} has no tensor {}", file.path().string(), name));
  }
  const ConstView from = tensor->view();
  if (from.dtype() != DType::f32 || !(from.shape() == shape)) {
    throw Error(Fault::bad_data,
                fmt::format("{} in {} does not fit the model", name, file.path().string()),
                {fmt::format("the file has {} {}, the model {} {}", name_of(from.dtype()),
                             from.shape().to_string(), name_of(DType::f32), shape.to_string())});
  }
  device.copy_to_device(to.bytes(), from.data<float>() + first, to.size_bytes());
}

void save_moments(const fs::path& path, const AdamwOptimizer::HostMoments& moments) {
  std::vector<TensorToWrite> tensors;
  for (const auto& [parameter, m, v] : moments.pairs) {
    tensors.push_back({"m." + parameter->name, m});
    tensors.push_back({"v." + parameter->name, v});
  }
  write_safetensors(path, tensors);
}

/// Calls visit(place, field) for what trainer_state.json has of a state, and visit_if(place, field,
/// has) for what it has in some only, and what older versions did not write.
template <class State, class Visit, class VisitIf>
void each_field(State& s, const Visit& visit, const VisitIf& visit_if) {
  visit("/global_step", s.step);
  visit("/updates", s.updates);
  visit("/epoch", s.epoch);
  visit("/data_position/seed", s.data.seed);
  visit("/data_position/epoch", s.data.epoch);
  visit("/data_position/offset", s.data.offset);
  visit("/num_input_tokens_seen", s.tokens);
  visit("/skipped_in_a_row", s.skipped_in_a_row);
  visit("/loss", s.loss);
  visit("/log/loss_sum", s.loss_sum);
  visit("/log/steps", s.loss_steps);
  visit("/first_eval_loss", s.first_eval_loss);
  visit("/eval_loss", s.eval_loss);
  visit("/eval_step", s.eval_step);
  visit("/best_metric", s.best_eval_loss);
  visit("/best_global_step", s.best_step);
  visit("/evals_since_best", s.evals_since_best);
  visit("/fixed", s.fixed);
  visit("/options", s.options);
  const auto watch = [&](const std::string& place, auto& of) {
    visit_if(place + "/count", of.count, true);
    visit_if(place + "/mean", of.mean, true);
    visit_if(place + "/variance", of.variance, true);
  };
  watch("/loss_watch", s.loss_watch);
  watch("/grad_norm_watch", s.norm_watch);
  visit_if("/sample_cut", s.sample_cut, s.sample_cut);
  const bool shortened = s.plan.steps > 0, bounded = s.eval_plan != EvalPlan{};
  visit_if("/plan/steps", s.plan.steps, shortened);
  visit_if("/plan/anchor", s.plan.anchor, shortened);
  visit_if("/plan/anchor_place", s.plan.anchor_place, shortened);
  visit_if("/eval_plan/rows", s.eval_plan.rows, bounded);
  visit_if("/eval_plan/every", s.eval_plan.every, bounded);
}

std::string to_json(const TrainerState& s) {
  json state = {{"version", kStateVersion}};
  const auto write = [&](const std::string& place, const auto& field) {
    state[json::json_pointer(place)] = field;
  };
  each_field(s, write, [&](const std::string& place, const auto& field, bool has) {
    if (has) write(place, field);
  });
  return json_text(state, 2) + "\n";
}

}  // namespace

std::string checkpoint_name(std::int64_t step) {
  return std::string(kPrefix) + std::to_string(step);
}

std::vector<std::int64_t> checkpoint_steps(const fs::path& output_dir) {
  std::vector<std::int64_t> steps;
  if (!fs::is_directory(output_dir)) return steps;
  for (const fs::directory_entry& entry : fs::directory_iterator(output_dir)) {
    const std::optional<std::int64_t> step = step_of(entry.path().filename().string());
    if (step && is_complete(entry.path())) steps.push_back(*step);
  }
  std::sort(steps.begin(), steps.end());
  return steps;
}

void remove_leftovers(const fs::path& output_dir) {
  std::vector<fs::path> leftovers;
  for (const fs::directory_entry& entry : fs::directory_iterator(output_dir)) {
    const std::string name = entry.path().filename().string();
    for (const std::string_view mark : {kSaving, kRemoving}) {
      if (name.starts_with(mark) && step_of(std::string_view(name).substr(mark.size()))) {
        leftovers.push_back(entry.path());
      }
    }
    if (entry.is_regular_file() && is_temporary(name)) leftovers.push_back(entry.path());
  }
  for (const fs::path& leftover : leftovers) fs::remove_all(leftover);
}

fs::path save_checkpoint(const fs::path& output_dir, const CheckpointToSave& checkpoint) {
  const std::string name = checkpoint_name(checkpoint.state.step);
  const fs::path folder = output_dir / name;
  const fs::path saving = output_dir / (std::string(kSaving) + name);
  fs::remove_all(saving);
  try {
    std::error_code error;
    if (!fs::create_directory(saving, error)) {
      throw Error(error == std::errc::no_space_on_device ? Fault::no_space : Fault::bad_data,
                  "cannot create " + saving.string(), {error.message()});
    }
    if (checkpoint.write_companions) checkpoint.write_companions(saving);
    save_moments(saving / kMoments, checkpoint.moments);
    write_file(saving / kState, to_json(checkpoint.state));
    checkpoint.model.save(saving, DType::f32);
    sync_folder(saving);
    if (fs::exists(folder)) remove_folder(folder);
    fs::rename(saving, folder);
    sync_folder(output_dir);
  } catch (const Error& error) {
    std::error_code ignored;
    fs::remove_all(saving, ignored);
    if (error.fault() != Fault::no_space) throw;
    std::vector<std::string> details = error.details();
    const std::vector<std::int64_t> kept = checkpoint_steps(output_dir);
    details.push_back(kept.empty() ? "there is no older checkpoint"
                                   : "the last complete checkpoint is " +
                                         (output_dir / checkpoint_name(kept.back())).string());
    throw Error(Fault::no_space, fmt::format("cannot save {}: {}", name, error.what()), details,
                kept.empty()
                    ? "free some space and start again"
                    : "free some space, then go on with `resume_from_checkpoint` latest"_named);
  }
  return folder;
}

void rotate_checkpoints(const fs::path& output_dir, const Rotation& rotation) {
  if (rotation.limit <= 0) return;
  std::vector<std::int64_t> steps = checkpoint_steps(output_dir);
  std::erase_if(steps, [&](std::int64_t step) { return step > rotation.step; });
  std::int64_t excess = std::ssize(steps) - rotation.limit;
  for (const std::int64_t step : steps) {
    if (excess <= 0 || step == steps.back()) break;
    if (step == rotation.best_step) continue;
    remove_folder(output_dir / checkpoint_name(step));
    --excess;
  }
}

namespace {

constexpr const char* kParts[] = {kState, kMoments, kModelWeights};

/// The newest checkpoint from which a file is gone, if it is newer than `step`; "" where none is.
/// They are renamed when they are whole: something took the file since.
fs::path newest_robbed(const fs::path& output_dir, std::int64_t step) {
  fs::path newest;
  for (const fs::directory_entry& entry : fs::directory_iterator(output_dir)) {
    const std::optional<std::int64_t> its = step_of(entry.path().filename().string());
    const auto has = [&](const char* part) { return fs::exists(entry.path() / part); };
    if (!its || *its <= step || !std::any_of(std::begin(kParts), std::end(kParts), has)) continue;
    step = *its;
    newest = entry.path();
  }
  return newest;
}

/// Why a checkpoint cannot be gone on from, as far as its state and the headers of its tensors say.
std::optional<Error> damage_of(const fs::path& folder) {
  try {
    read_trainer_state(folder);
    for (const char* name : {kMoments, kModelWeights, kAdapterWeights}) {
      if (fs::exists(folder / name)) Safetensors file(folder / name);
    }
  } catch (const Error& error) {
    return error;
  }
  return std::nullopt;
}

/// The newest checkpoint, or an error that names the newest sound one where this one is damaged.
fs::path newest_checkpoint(const fs::path& output_dir, const std::vector<std::int64_t>& steps) {
  fs::path newest = output_dir / checkpoint_name(steps.back());
  std::optional<Error> damage = damage_of(newest);
  std::size_t older_ones = steps.size() - 1;
  if (const fs::path robbed = newest_robbed(output_dir, steps.back()); !robbed.empty()) {
    const auto gone = std::find_if(std::begin(kParts), std::end(kParts),
                                   [&](const char* part) { return !fs::exists(robbed / part); });
    damage = Error(Fault::bad_data, robbed.string() + " has no " + *gone);
    newest = robbed;
    older_ones = steps.size();
  }
  if (!damage || damage->fault() != Fault::bad_data) return newest;  // its own error comes later
  for (std::size_t i = older_ones; i-- > 0;) {
    const fs::path older = output_dir / checkpoint_name(steps[i]);
    if (damage_of(older)) continue;
    std::vector<std::string> details = damage->details();
    details.insert(details.begin(), damage->what());
    details.push_back(older.string() + " is sound");
    throw Error(Fault::bad_data, "the newest checkpoint, " + newest.string() + ", is damaged",
                std::move(details),
                "the same command with `resume_from_checkpoint` "_named + in_shell(older.string()));
  }
  return newest;
}

}  // namespace

fs::path find_checkpoint(const fs::path& output_dir, const std::string& latest_or_folder) {
  if (latest_or_folder == "latest") {
    const std::vector<std::int64_t> steps = checkpoint_steps(output_dir);
    if (!steps.empty()) return newest_checkpoint(output_dir, steps);
    throw Error(
        Fault::bad_data, "there is no checkpoint in " + output_dir.string(),
        {"a run saves one every `save_steps` steps, and when it is interrupted"_named},
        "the same command with `overwrite_output_dir` instead of `resume_from_checkpoint`"_named);
  }
  const fs::path folder = latest_or_folder;
  if (is_complete(folder)) return folder;
  throw Error(Fault::bad_data, folder.string() + " is not a checkpoint",
              {"a checkpoint has trainer_state.json, optimizer.safetensors and model.safetensors"},
              "`resume_from_checkpoint` latest"_named);
}

TrainerState read_trainer_state(const fs::path& checkpoint) {
  const fs::path path = checkpoint / kState;
  try {
    const json state = parse_json<json>(read_file(path));
    if (state.at("version") != kStateVersion) {
      throw Error(Fault::bad_data, path.string() + " is of another version of quire",
                  {fmt::format("version {}, this program reads {}", json_text(state.at("version")),
                               kStateVersion)});
    }
    TrainerState s;
    const auto read = [&]<class T>(const std::string& place, T& into) {
      const json& value = state.at(json::json_pointer(place));
      if constexpr (std::is_same_v<T, Fingerprint>) {
        value.get_to(into);
        return;
      } else if constexpr (std::is_same_v<T, double>) {
        into = TrainerState::kNone;  // null: not measured yet, for which JSON has no number
        if (value.is_null()) return;
      }
      if (!read_json(value, into)) {
        throw Error(Fault::bad_data, path.string() + " is damaged",
                    {fmt::format("{} is {}, not {}", place.substr(1), json_text(value),
                                 wanted_json<T>(value))});
      }
    };
    each_field(s, read, [&](const std::string& place, auto& into, bool) {
      if (state.contains(json::json_pointer(place))) read(place, into);
    });
    return s;
  } catch (const json::exception& error) {
    throw Error(Fault::bad_data, path.string() + " is damaged", {json_trouble(error)});
  }
}

std::vector<std::string> differences(const Fingerprint& checkpoint, const Fingerprint& now) {
  Fingerprint either = checkpoint;
  either.insert(now.begin(), now.end());
  const auto value_of = [](const Fingerprint& fingerprint, const std::string& name) {
    const auto found = fingerprint.find(name);
    return found == fingerprint.end() ? std::string("none") : found->second;
  };
  std::vector<std::string> lines;
  for (const auto& [name, value] : either) {
    const std::string before = value_of(checkpoint, name);
    const std::string after = value_of(now, name);
    if (before != after) {
      lines.push_back(fmt::format("{}: the checkpoint has {}, now {}", name, before, after));
    }
  }
  return lines;
}

void TrainedModel::save(const fs::path& folder, DType dtype) const {
  if (!adapter) return save_model(device, folder, config, parameters, dtype);
  save_adapter(device, folder, *adapter, base_model, save_tables ? &parameters : nullptr);
}

void TrainedModel::load(const fs::path& checkpoint) const {
  const TensorSource file = Safetensors(checkpoint / (adapter ? kAdapterWeights : kModelWeights));
  for (std::size_t i = 0; i < trained().names().size(); ++i) {
    const View to = trained().tensors()[i];
    if (to) load_values(device, file, trained().names()[i].name, to.shape(), 0, to);
  }
  device.synchronize();
}

void load_moments(Device& device, const fs::path& checkpoint, const AdamwOptimizer& optimizer) {
  const TensorSource file = Safetensors(checkpoint / kMoments);
  for (const AdamwOptimizer::Piece& piece : optimizer.pieces()) {
    const NamedParameter& of = *piece.parameter;
    load_values(device, file, "m." + of.name, of.shape, piece.first, piece.m);
    load_values(device, file, "v." + of.name, of.shape, piece.first, piece.v);
  }
  device.synchronize();
}

}  // namespace quire
