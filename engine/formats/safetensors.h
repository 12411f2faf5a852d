// Reading and writing .safetensors files.
//
// The file: 8 bytes little-endian N; N bytes of JSON: name -> {"dtype", "shape", "data_offsets":
// [begin, end)} and "__metadata__" -> strings; then the data, offsets counted from its start. The
// tensors cover the data without overlap and without holes.
#pragma once

#include <filesystem>
#include <functional>
#include <initializer_list>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "engine/formats/sink.h"
#include "engine/formats/source.h"

namespace quire {

class Device;

/// Everything in the header is checked before anything is used: header length, JSON, types, shapes
/// against byte counts, offsets inside the file, no overlaps, no holes. Throws Error(bad_data) with
/// file, tensor and numbers.
class Safetensors : public TensorSource {
 public:
  explicit Safetensors(const std::filesystem::path& path);
};

/// Shards as model.safetensors.index.json or pytorch_model.bin.index.json lists them. Throws
/// Error(bad_data) naming the index, the shard and the tensor, for what is missing or not as the
/// index says.
class Shards : public TensorSource {
 public:
  Shards(const std::filesystem::path& index_json,
         TensorSource (*open)(const std::filesystem::path& shard));
};

/// The layout of a file of these tensors in the given order, of types that View has a DType for.
FileLayout safetensors_layout(std::vector<OutTensor> tensors,
                              const std::map<std::string, std::string>& metadata = {
                                  {"format", "pt"}});

struct TensorToWrite {
  std::string name;
  ConstView view;  ///< host memory
  /// The type in the file; other float types are converted in passing. Empty: as in memory.
  std::optional<DType> stored_as = std::nullopt;
};

using TextsBeside = std::initializer_list<std::pair<const char*, std::string>>;  ///< by file name

/// Writes atomically (base/file.h). Tensors are stored in the given order; the data starts at a
/// multiple of 64 bytes. Texts beside it are replaced between the writing of the tensors and the
/// moment that the file is there. Throws Error(bad_data) for a finite number that float16 cannot
/// hold.
void write_safetensors(const std::filesystem::path& path, std::span<const TensorToWrite> tensors,
                       const std::map<std::string, std::string>& metadata = {{"format", "pt"}},
                       const TextsBeside& beside = {});

using WhyNotSaved = std::function<Error(const std::string& what, const std::string& where)>;
/// Tensors in memory of the device, and the texts beside them: makes the folder when it is not
/// there, and replaces each file atomically, none before all weights are written, the weights last.
/// Throws refuse("tensor 'wte.weight' holds nan", "at element 7 of [12]") before that for weights
/// that are not finite, and Error(no_space) when the disk is full; the old files are then as they
/// were.
void save_weights(Device& device, const std::filesystem::path& weights,
                  std::vector<TensorToWrite> tensors, const TextsBeside& beside,
                  const WhyNotSaved& refuse);

}  // namespace quire
