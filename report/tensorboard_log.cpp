#include "report/tensorboard_log.h"

#include <algorithm>
#include <boost/crc.hpp>
#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/json.h"
#include "tensorboard.pb.h"

namespace quire {
namespace {

namespace fs = std::filesystem;
using tensorboard::Event;
using tensorboard::HParamsPluginData;
using tensorboard::Summary;

constexpr const char* kSessionStart = "_hparams_/session_start_info";
constexpr const char* kSessionEnd = "_hparams_/session_end_info";

double now() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

std::string little_endian(std::uint64_t value, int bytes) {
  std::string text;
  for (int i = 0; i < bytes; ++i) text.push_back(static_cast<char>(value >> (8 * i) & 0xFF));
  return text;
}

std::uint64_t little_endian(std::string_view bytes) {
  std::uint64_t value = 0;
  for (std::size_t i = bytes.size(); i-- > 0;) value = value << 8 | (bytes[i] & 0xFFu);
  return value;
}

/// Takes the first record off; nothing where it is cut short or damaged.
std::optional<std::string_view> take_record(std::string_view& file) {
  if (file.size() < 12) return std::nullopt;
  const std::string_view head = file.substr(0, 8);
  const std::uint64_t length = little_endian(head);
  if (little_endian(file.substr(8, 4)) != masked_crc32c(head)) return std::nullopt;
  if (file.size() - 12 < length || file.size() - 12 - length < 4) return std::nullopt;
  const std::string_view data = file.substr(12, length);
  if (little_endian(file.substr(12 + length, 4)) != masked_crc32c(data)) return std::nullopt;
  file.remove_prefix(12 + length + 4);
  return data;
}

Event event_of(std::int64_t step, double wall_time = now()) {
  Event event;
  event.set_wall_time(wall_time);
  event.set_step(step);
  return event;
}

/// A value of one plugin, without its content.
Summary::Value& add_value(Event& event, const std::string& tag, const char* plugin,
                          tensorboard::Tensor::Type type) {
  Summary::Value& value = *event.mutable_summary()->add_value();
  value.set_tag(tag);
  value.mutable_tensor()->set_dtype(type);
  value.mutable_tensor()->mutable_tensor_shape();
  value.mutable_metadata()->mutable_plugin_data()->set_plugin_name(plugin);
  return value;
}

/// The hparams plugin looks at the metadata alone; readers of tensors get a number.
Event session_event(std::int64_t step, const char* tag, const HParamsPluginData& data) {
  Event event = event_of(step);
  Summary::Value& value = add_value(event, tag, "hparams", tensorboard::Tensor::DT_FLOAT);
  value.mutable_tensor()->add_float_val(0);
  value.mutable_metadata()->mutable_plugin_data()->set_content(data.SerializeAsString());
  return event;
}

/// Numbers, truth values and text as such, all else as JSON.
tensorboard::Hyperparameter hyperparameter(const nlohmann::json& option) {
  tensorboard::Hyperparameter value;
  if (option.is_boolean()) {
    value.set_bool_value(option.get<bool>());
  } else if (option.is_number()) {
    value.set_number_value(option.get<double>());
  } else {
    value.set_string_value(option.is_string() ? option.get<std::string>() : json_text(option));
  }
  return value;
}

/// TensorBoard takes text for Markdown: four spaces keep a line as it is.
std::string as_code(const std::string& text) {
  std::string code = "    ";
  for (const char c : text) code += c == '\n' ? "\n    " : std::string(1, c);
  return code;
}

}  // namespace

std::uint32_t masked_crc32c(std::string_view bytes) {
  boost::crc_optimal<32, 0x1EDC6F41, 0xFFFFFFFF, 0xFFFFFFFF, true, true> crc;
  crc.process_bytes(bytes.data(), bytes.size());
  const auto sum = static_cast<std::uint32_t>(crc.checksum());
  return (sum >> 15 | sum << 17) + 0xA282EAD8u;
}

std::string framed_record(std::string_view data) {
  const std::string length = little_endian(data.size(), 8);
  return length + little_endian(masked_crc32c(length), 4) + std::string(data) +
         little_endian(masked_crc32c(data), 4);
}

std::string scalar_event(double wall_time, std::int64_t step, const std::string& tag, float value) {
  Event event = event_of(step, wall_time);
  Summary::Value& scalar = *event.mutable_summary()->add_value();
  scalar.set_tag(tag);
  scalar.set_simple_value(value);
  return event.SerializeAsString();
}

void TensorboardLog::begin(const fs::path& output_dir, std::int64_t resumed_step) {
  const fs::path path = output_dir / kFileName;
  make_folder(path.parent_path());
  std::string kept;
  if (resumed_step >= 0 && fs::exists(path)) {
    const std::string content = read_file(path);
    std::string_view rest = content;
    while (const std::optional<std::string_view> record = take_record(rest)) {
      Event event;
      if (!event.ParseFromArray(record->data(), static_cast<int>(record->size()))) break;
      const bool ends =
          event.summary().value_size() > 0 && event.summary().value(0).tag() == kSessionEnd;
      if (event.step() <= resumed_step && !ends) kept += framed_record(*record);
    }
  }
  const bool fresh = kept.empty();
  write_file(path, kept);
  file_.emplace(path);
  step_ = std::max<std::int64_t>(resumed_step, 0);
  if (!fresh) return;

  Event version = event_of(0);
  version.set_file_version("brain.Event:2");
  HParamsPluginData data;
  data.mutable_session_start_info()->set_start_time_secs(now());
  auto& hparams = *data.mutable_session_start_info()->mutable_hparams();
  const nlohmann::json options = parse_json<nlohmann::json>(options_);
  for (const auto& [name, option] : options.items()) hparams[name] = hyperparameter(option);
  file_->write(framed_record(version.SerializeAsString()) +
               framed_record(session_event(0, kSessionStart, data).SerializeAsString()));
}

void TensorboardLog::scalars(std::int64_t step, const Scalars& scalars) {
  step_ = step;
  const double time = now();
  std::string records;
  for (const auto& [tag, value] : scalars) {
    records += framed_record(scalar_event(time, step, tag, static_cast<float>(value)));
  }
  file_->write(records);
}

void TensorboardLog::text(std::int64_t step, const std::string& tag, const std::string& text) {
  step_ = step;
  Event event = event_of(step);
  add_value(event, tag, "text", tensorboard::Tensor::DT_STRING)
      .mutable_tensor()
      ->add_string_val(as_code(text));
  file_->write(framed_record(event.SerializeAsString()));
}

void TensorboardLog::train(const TrainingProgress& progress) {
  Scalars known = {{"train/loss", progress.loss},
                   {"train/learning_rate", progress.learning_rate},
                   {"train/grad_norm", progress.grad_norm},
                   {"train/epoch", progress.epoch},
                   {"train/tokens_per_second", progress.tokens_per_second}};
  if (!std::isnan(progress.mfu)) known.emplace_back("train/mfu", progress.mfu);
  scalars(progress.step, known);
}

void TensorboardLog::eval(std::int64_t step, double eval_loss) {
  scalars(step, {{"eval/loss", eval_loss}, {"eval/perplexity", std::exp(eval_loss)}});
}

void TensorboardLog::sample(std::int64_t step, const TextSample& sample) {
  text(step, "samples/" + sample.prompt, sample.prompt + sample.text);
}

void TensorboardLog::warning(std::int64_t step, const std::string& line) {
  text(step, "warnings", line);
}

void TensorboardLog::end(RunEnd how) {
  if (how == RunEnd::interrupted) return;  // for TensorBoard it runs until it has ended
  HParamsPluginData data;
  data.mutable_session_end_info()->set_status(how == RunEnd::done
                                                  ? tensorboard::SessionEndInfo::STATUS_SUCCESS
                                                  : tensorboard::SessionEndInfo::STATUS_FAILURE);
  data.mutable_session_end_info()->set_end_time_secs(now());
  file_->write(framed_record(session_event(step_, kSessionEnd, data).SerializeAsString()));
}

void TensorboardLog::discard() {
  const fs::path path = file_->path();
  file_.reset();
  fs::remove(path);
  fs::remove(path.parent_path());
}

}  // namespace quire
