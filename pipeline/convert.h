// A model's files, in any format that is read, to files in any format that is written.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "kernels/device.h"

namespace quire {

struct ConvertOptions {
  std::string model;             ///< as --model: a folder, a file, an adapter or a Hub name
  std::filesystem::path output;  ///< a folder or a file
  /// "safetensors", "gguf", "llmc", "pytorch"; "auto": what the output's name says.
  std::string format = "auto";
  /// "float32", "float16", "bfloat16", "int8", "int4", "q4_k"; "auto": as stored.
  std::string dtype = "auto";
  std::string tokenizer;           ///< another one than the model's
  std::size_t max_shard_size = 0;  ///< bytes; 0: one file
  bool overwrite_output_dir = false;
  int resize_vocab = 0;     ///< rows; 0: as they are
  std::uint64_t seed = 42;  ///< of new rows
  int threads = 0;          ///< 0: all that are available
};

struct ConvertCallbacks {
  std::function<std::unique_ptr<Device>()> open_device;  ///< where an adapter is merged
  std::function<void(std::size_t done, std::size_t of)> progress = {};  ///< bytes
  std::function<bool()> stop_requested = {};
};

struct Converted {
  std::string format;                  ///< as the option has it
  std::size_t tensors = 0, bytes = 0;  ///< bytes of the files with weights
  std::int64_t parameters = 0;
  std::vector<std::filesystem::path> files;  ///< all that were written
  std::vector<std::string> notes;            ///< for people, a line each
  bool stopped = false;                      ///< then there are none
};

/// Writes `output` so that at every moment there is what was there before, or all that is new: a
/// folder or a file beside it takes its name at the end. What is written:
///   safetensors  a folder with config.json, generation_config.json, model.safetensors (or shards
///                and their index) and the tokenizer's files; or a file of that name
///   pytorch      the same with pytorch_model.bin; or a file *.bin, *.pt or *.pth
///   gguf         a file with the tokenizer in it
///   llmc         a file, and tokenizer.bin beside it
/// int8 is Q8_0 and int4 Q4_0, which with Q4_K GGUF alone has. Rows that `resize_vocab` adds are those of
/// drawn_rows() (engine/model/vocabulary.h). Needs about a mebibyte of memory a thread, whatever the
/// model's size; and where rows are added, a table of tokens as float32; of an adapter, the merged
/// model. Throws Error(usage) for options that do not go together and
/// for an output that is there already; bad_data for what the model's files, the format or the type
/// cannot hold; no_space.
Converted convert(const ConvertOptions& options, const ConvertCallbacks& callbacks);

/// What would be refused before anything costly is done, of the options and the output.
void check(const ConvertOptions& options);

}  // namespace quire
