// OUTPUT_DIR/tensorboard/: a run as TensorBoard reads it.
//
// The folder holds one file of records. A record is
//   length    8 bytes: of the data, little-endian
//   crc       4 bytes: of those 8
//   data      an Event (report/tensorboard.proto)
//   crc       4 bytes: of the data
// where crc is the CRC-32C of the bytes, masked so that the CRC of data that holds CRCs is no worse
// than others: turned right by 15 bits, plus 0xA282EAD8.
//
// The first event names the version of the format, the second the options as hyperparameters. Then
// come scalars (train/loss, train/learning_rate, eval/loss …), texts (samples/PROMPT, warnings),
// and when the run has ended how it did.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/file.h"
#include "engine/training/run_log.h"

namespace quire {

std::uint32_t masked_crc32c(std::string_view bytes);
/// Length, CRC, data and CRC.
std::string framed_record(std::string_view data);
/// An Event with one scalar, serialized.
std::string scalar_event(double wall_time, std::int64_t step, const std::string& tag, float value);

class TensorboardLog : public RunLog {
 public:
  static constexpr const char* kFileName = "tensorboard/events.out.tfevents.quire";

  /// `options`: a JSON object, the run's hyperparameters.
  explicit TensorboardLog(std::string options) : options_(std::move(options)) {}

  /// Events of later steps go, as do a record cut short by a crash and the end of the session.
  void begin(const std::filesystem::path& output_dir, std::int64_t resumed_step) override;
  void train(const TrainingProgress& progress) override;
  void eval(std::int64_t step, double eval_loss) override;
  void sample(std::int64_t step, const TextSample& sample) override;
  void warning(std::int64_t step, const std::string& text) override;
  void end(RunEnd how) override;
  void discard() override;

 private:
  using Scalars = std::vector<std::pair<const char*, double>>;  // tags and values
  void scalars(std::int64_t step, const Scalars& scalars);
  void text(std::int64_t step, const std::string& tag, const std::string& text);

  std::string options_;
  std::int64_t step_ = 0;  // the last one told of
  std::optional<AppendFile> file_;
};

}  // namespace quire
