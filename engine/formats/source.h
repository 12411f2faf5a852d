// Files of named tensors, whatever their format.
//
// A format is a class that derives from TensorSource, in a file of its own: its constructor maps
// the file, checks everything that the file says of itself before anything is used, and lists the
// tensors. It adds no state. Model folders find it by its line in weight_files.cpp.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/file.h"
#include "engine/model/config.h"
#include "kernels/tensor.h"

namespace quire {

/// A type of elements in files, by the name that safetensors or GGUF has for it.
struct ElementType {
  std::string_view name;  ///< "F32", "F16", "BF16", "I32", "U8", "BOOL", "Q8_0", …
  /// As many elements lie together in so many bytes.
  std::int64_t block_elements, block_bytes;
  std::optional<DType> dtype = {};  ///< what View has for it
  bool is_quantised = false;        ///< integers and what they are multiplied with (quantised.h)

  /// Of all elements of a shape; nullopt where they do not fill whole blocks in every row, or are
  /// more than any file can hold.
  std::optional<std::size_t> bytes_of(std::span<const std::int64_t> shape) const;
};
const ElementType* element_type(std::string_view name);  ///< nullptr: unknown
const ElementType* element_type(DType dtype);

/// A tensor in a mapped file, which it keeps mapped. Types that View has no DType for (BOOL, U8,
/// I64, …) are listed too: what needs a DType throws.
/// All errors are Error(bad_data).
struct FileTensor {
  std::string name;
  const ElementType* type = nullptr;
  std::vector<std::int64_t> shape;  ///< any rank
  /// A matrix [in, out] whose elements lie as [out, in].
  bool transposed = false;
  std::span<const std::byte> bytes = {};  ///< the elements as they lie, inside the mapping
  std::shared_ptr<const MappedFile> file = {};

  /// One in memory, that lies as its view has it. It has no file.
  static FileTensor of(std::string name, const ConstView& view);

  /// "F32", "F16", "BF16", "I32", "U8", "BOOL", "Q8_0", …
  std::string dtype_name() const { return std::string(type->name); }
  /// True when there is a DType for it.
  bool has_dtype() const { return type->dtype.has_value(); }
  DType dtype() const;
  std::int64_t count() const;  ///< of the elements
  /// In the order of its shape, one after the other, in that type.
  bool lies_as(DType dtype) const { return !transposed && type->dtype == dtype; }
  bool is_quantised() const { return type->is_quantised; }
  /// False where a foreign writer put the data at an address that its type cannot be read from.
  bool aligned() const;
  /// The elements in place. Throws for a rank above 4 and where aligned() is false, too.
  ConstView view() const;

  /// "DIR/x.safetensors: tensor 'wte.weight'", for messages
  std::string where() const;
  /// The type of what is to be a weight, in memory: throws unless it is f32, f16 or bf16 in the
  /// file, or quantised, which is f32.
  DType weight_type() const;
  /// Where an element lies that is the first of its block, in the order in which they lie.
  const std::byte* at(std::int64_t element) const;
  /// [3, 17] of an element, from its index in the order of the shape.
  std::vector<std::int64_t> place_of(std::int64_t index) const;
  /// About so many elements that can be read together: of a transposed or quantised matrix whole
  /// rows.
  std::int64_t whole_rows(std::int64_t elements) const;
  /// Elements first … first + to.size() - 1 of a weight in the order of its shape, as floats: of a
  /// quantised one whole rows, of a transposed one whole rows from a multiple of kRowsTogether on.
  /// They have to be finite (check_weight()): of f16, NaN and infinity come out as large numbers.
  void read(std::int64_t first, std::span<float> to) const;
  static constexpr std::int64_t kRowsTogether = 256;
  /// The same in the order in which they lie, of a quantised one whole blocks.
  void read_as_it_lies(std::int64_t first, std::span<float> to) const;
  struct Bad {
    std::int64_t index;  ///< in the order of the shape
    float value;
  };
  /// NaN or infinity among elements first … first + elements - 1 of a weight in the order in which
  /// they lie, of a quantised one whole blocks.
  std::optional<Bad> find_not_finite(std::int64_t first, std::int64_t elements) const;
  /// Throws where find_not_finite() finds one.
  void check_finite(std::int64_t first, std::int64_t elements) const;
  /// Throws unless it is a weight without NaN and infinity.
  void check_weight() const { check_finite(0, count()); }
  /// All of it, in the same way.
  std::vector<float> read_weight() const;
};

/// "[2, 33]" of a shape of any rank, and the extents of one.
std::string to_string(const std::vector<std::int64_t>& shape);
std::vector<std::int64_t> extents_of(const Shape& shape);

/// The tensors of a file, or of several that belong together. Move-only, so that pointers to the
/// tensors last.
class TensorSource {
 public:
  TensorSource(TensorSource&&) noexcept = default;
  TensorSource& operator=(TensorSource&&) noexcept = default;

  const std::vector<FileTensor>& tensors() const { return tensors_; }  ///< in file order
  const FileTensor* find(const std::string& name) const;               ///< nullptr: not there
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  const std::filesystem::path& path() const { return path_; }  ///< the file, or the index of them
  /// What the file itself says of the model, in a format that does.
  const std::optional<Gpt2Config>& config() const { return config_; }
  /// What of it says so, for messages: "hparams.json", "metadata".
  const std::string& config_origin() const { return config_origin_; }

 protected:
  explicit TensorSource(std::filesystem::path path) : path_(std::move(path)) {}
  /// Throws Error(bad_data) for a name that is there already, or is not UTF-8.
  void add(FileTensor tensor);
  /// Throws Error(bad_data) where no GPT-2 has it.
  void set_config(const Gpt2Config& config, std::string origin);

  std::map<std::string, std::string> metadata_;

 private:
  std::filesystem::path path_;
  std::optional<Gpt2Config> config_;
  std::string config_origin_;
  std::vector<FileTensor> tensors_;
  std::unordered_map<std::string, std::size_t> places_;  // in tensors_
};

}  // namespace quire
