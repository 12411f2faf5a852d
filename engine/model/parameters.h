// The parameters of a GPT-2, by name and by role. The same layout holds gradients and moments.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include "engine/model/config.h"
#include "engine/model/laid_out_weights.h"
#include "kernels/device.h"

namespace quire {

/// What the modules of a block are for, in the order of transformers' named_parameters().
enum class Role : std::uint8_t { ln_1, c_attn, attn_proj, ln_2, c_fc, mlp_proj };

/// A number of channels: none, n_embd, 3·n_embd or config.inner().
enum class Width : std::uint8_t { none, C, C3, I };

/// Each module has a weight and a bias [out]. A product's weight [in, out] is a matrix, decays and
/// can have an adapter; a layernorm's [out] is none of this.
struct RoleEntry {
  const char* name;  ///< within the block
  Width in, out;
  int dropout;  ///< the place of its adapter's dropout among the streams of a block
};
inline constexpr std::array<RoleEntry, 6> kRoles = {{{"ln_1", Width::none, Width::C, 0},
                                                     {"attn.c_attn", Width::C, Width::C3, 4},
                                                     {"attn.c_proj", Width::C, Width::C, 5},
                                                     {"ln_2", Width::none, Width::C, 0},
                                                     {"mlp.c_fc", Width::C, Width::I, 6},
                                                     {"mlp.c_proj", Width::I, Width::C, 7}}};
/// Those with a matrix.
inline constexpr std::array kProducts = {Role::c_attn, Role::attn_proj, Role::c_fc, Role::mlp_proj};

/// One of each for every module of a block.
template <class T>
struct ByRole {
  std::array<T, kRoles.size()> all;
  T& operator[](Role role) { return all[static_cast<std::size_t>(role)]; }
  const T& operator[](Role role) const { return all[static_cast<std::size_t>(role)]; }
};
constexpr const RoleEntry& entry_of(Role role) {
  return kRoles[static_cast<std::size_t>(role)];
}

/// "transformer.h.3.attn.c_attn".
std::string module_name(int layer, Role role);
/// Of its weight: [in, out], or [out].
Shape weight_shape(const Gpt2Config& config, Role role);
/// The place of its weight in parameter_list(); its bias comes next.
std::size_t weight_index(int layer, Role role);

template <class AnyView>
struct WeightAndBias {
  AnyView weight, bias;
};

/// A parameter under its Hugging Face name, "transformer.h.0.attn.c_attn.weight".
struct NamedParameter {
  std::string name;
  Shape shape;
  bool decays;     ///< matrices and embeddings decay, biases and layernorms do not
  bool is_matrix;  ///< a Conv1D weight, a table or the head: what 16-bit storage applies to
  /// The table that the head multiplies with, [V, C]. Its memory has rows of zeros behind it, as
  /// many as make V a multiple of the device's vocab_multiple(); they belong to no tensor, so no
  /// file, norm or optimizer meets them.
  bool is_head = false;
  std::vector<std::string> extents = {};  ///< its shape as fields of the config, for messages
};

/// `size` up to the next multiple.
std::int64_t round_up(std::int64_t size, std::int64_t multiple);

/// Its shape with the rows behind the head; any other tensor's own.
Shape padded_shape(const NamedParameter& parameter, int vocab_multiple);

/// Zeros into the rows behind the head, whose first V lie at `tensor`; nothing for other tensors.
void clear_padding(Device& device, const NamedParameter& parameter, void* tensor, DType dtype,
                   int vocab_multiple);

/// Every parameter of the model in the order of transformers' named_parameters(); `lm_head.weight`
/// comes last and only when the head is not tied.
std::vector<NamedParameter> parameter_list(const Gpt2Config& config);

/// One flag for each entry of a list of parameters; an empty set stands for all of them.
using ParameterSet = std::vector<bool>;

/// Which entries of parameter_list() train when embeddings and the first `frozen_layers` blocks do
/// not. 0: all of them do.
ParameterSet trainable_parameters(const Gpt2Config& config, int frozen_layers);

/// What the gradients of one block take among others: each block's lie behind those of the one before.
std::size_t bytes_of_block(const Gpt2Config& config);

/// Tensors by name: parameters, and what training keeps beside each of them. Move-only.
class NamedTensors {
 public:
  /// Allocates as `dtype`, uninitialised. Entries that `held` leaves out get no memory: their views
  /// are empty. The memory divides into `parts` of equal size.
  NamedTensors(Device& device, std::vector<NamedParameter> list, const ParameterSet& held = {},
               int parts = 1, DType dtype = DType::f32);

  NamedTensors(NamedTensors&&) noexcept = default;
  NamedTensors& operator=(NamedTensors&&) noexcept = default;

  const std::vector<NamedParameter>& names() const { return names_; }
  const std::vector<View>& tensors() const { return tensors_; }  // as names()
  /// The place of that name in names(); throws Error(internal) when there is none.
  std::size_t index_of(const std::string& name) const;
  View find(const std::string& name) const { return tensors_[index_of(name)]; }
  /// All of the memory that the constructor allocated as a row of floats: the tensors in their
  /// order, each from a multiple of 16 on, and what lies between and behind them.
  View all() const;
  /// Sets every element to zero: how gradients and moments start.
  void fill_zero(Device& device) const;
  /// What the constructor allocates on a device with that vocab_multiple().
  static std::size_t bytes(const std::vector<NamedParameter>& list, const ParameterSet& held = {},
                           int parts = 1, int vocab_multiple = 1, DType dtype = DType::f32);

 protected:
  /// Where there are fewer tensors than names, the rest has no memory.
  NamedTensors(std::vector<NamedParameter> list, std::vector<View> tensors)
      : names_(std::move(list)), tensors_(std::move(tensors)) {
    tensors_.resize(names_.size());
  }

 private:
  std::vector<NamedParameter> names_;
  std::vector<View> tensors_;
  Buffer buffer_;
};

/// The tensors of parameter_list() by role: ConstViews of what is only read, Views of gradients.
/// What products read are Weights, in the layout in which GPT-2 has them or, as some files do, as
/// [out, in].
template <class AnyView>
class TensorsByRole {
 public:
  using Matrix = std::conditional_t<std::is_same_v<AnyView, View>, WritableWeight, Weight>;

  TensorsByRole() = default;
  /// `tensors` as parameter_list() has them; so `out_in`, where there are any.
  TensorsByRole(const Gpt2Config& config, const std::vector<AnyView>& tensors, int vocab_multiple,
                const std::vector<Matrix>& out_in = {});

  Matrix table() const { return table_; }  // [V, C]
  /// The same of plain elements; throws Error(internal) where it is in blocks.
  AnyView wte() const;                  // [V, C]
  AnyView wpe() const { return wpe_; }  // [P, C]
  /// The weight of one of kProducts is empty where it is [out, in].
  const ByRole<WeightAndBias<AnyView>>& layer(int index) const { return layers_[index]; }
  /// Of one of kProducts, a Conv1D.
  Matrix matrix(int index, Role product) const { return matrices_[index][product]; }
  const WeightAndBias<AnyView>& ln_f() const { return ln_f_; }
  Matrix head() const { return head_; }  // [V, C]; table() itself when tied
  /// The head with the rows behind it, where there are any.
  Matrix padded_head() const { return padded_head_; }  // [W, C], W >= V

 private:
  Matrix table_, head_, padded_head_;
  AnyView wpe_;
  std::vector<ByRole<WeightAndBias<AnyView>>> layers_;
  std::vector<ByRole<Matrix>> matrices_;
  WeightAndBias<AnyView> ln_f_;
};

/// A gradient for each entry of parameter_list() that trains.
class ParameterGradients : public NamedTensors, public TensorsByRole<View> {
 public:
  ParameterGradients(Device& device, const Gpt2Config& config, const ParameterSet& held, int parts);
};

/// One tensor for each entry of parameter_list(), in one allocation or over borrowed memory. All of
/// them can be read, as weights() and by role; tensors() has those that may be written, and empty
/// views for what lies in a mapped file, say. Matrices that lie as [out, in] are read by role alone.
class Parameters : public NamedTensors, public TensorsByRole<ConstView> {
 public:
  Parameters(Device& device, const Gpt2Config& config);
  /// Takes views that someone else owns; `owner` keeps that memory alive. `weights`, and `writable`
  /// where it is given, are in the order of parameter_list(); behind the head lies what
  /// clear_padding() has cleared for that multiple.
  Parameters(const Gpt2Config& config, std::vector<ConstView> weights, std::shared_ptr<void> owner,
             int vocab_multiple = 1, std::vector<View> writable = {});
  /// The same with matrices in blocks or of plain elements that lie as [N, K] of a Conv1D [K, N]: each
  /// entry of parameter_list() is either in `out_in` or in `weights`, and empty in the other. For
  /// reading; without rows behind a head in blocks.
  Parameters(const Gpt2Config& config, std::vector<ConstView> weights,
             const std::vector<Weight>& out_in, std::shared_ptr<void> owner,
             int vocab_multiple = 1);

  bool in_blocks() const { return in_blocks_; }  ///< any of them
  /// What is to be done before each pass that reads all weights for a token a row, as how they lie
  /// decides how fast that is: see decoding(). It may fill `laid_out`.
  void before_decoding(std::function<void()> act, std::shared_ptr<const LaidOutWeights> laid_out) {
    before_decoding_ = std::move(act);
    laid_out_ = std::move(laid_out);
  }
  /// Does it. The views stay as they are.
  void decoding() const {
    if (before_decoding_) before_decoding_();
  }
  /// matrix() and head() as products of inference_precision() read them fastest by now. The bits of
  /// what is computed are the same.
  Weight decoding_matrix(int index, Role product) const {
    return laid_out(matrix(index, product), weight_index(index, product));
  }
  Weight decoding_head() const {
    return laid_out(head(), head().data == table().data ? 0 : names().size() - 1);
  }
  /// As names(); throws Error(internal) where some lie as [out, in].
  const std::vector<ConstView>& weights() const;
  ConstView find(const std::string& name) const { return weights()[index_of(name)]; }

  /// The same parameters with matrices of type `dtype` in memory of their own, not yet filled; all
  /// else is shared with `masters`, which must outlive it.
  static Parameters with_matrices(Device& device, const Gpt2Config& config,
                                  const Parameters& masters, DType dtype);
  static std::size_t bytes_of_matrices(const Gpt2Config& config, DType dtype,
                                       int vocab_multiple = 1);

 private:
  Parameters(NamedTensors own, const Gpt2Config& config, std::vector<ConstView> weights,
             int vocab_multiple);
  Weight laid_out(const Weight& stored, std::size_t index) const {
    return laid_out_ ? laid_out_->instead_of(stored, index) : stored;
  }

  std::vector<ConstView> weights_;
  bool in_blocks_ = false, out_in_ = false;
  std::shared_ptr<void> owner_;
  std::function<void()> before_decoding_;
  std::shared_ptr<const LaidOutWeights> laid_out_;
};

/// Fresh parameters as transformers draws them: N(0, initializer_range) for tables and Conv1D
/// weights, both c_proj with range/sqrt(2·n_layer), biases 0, layernorms 1 and 0. f32.
Parameters initialize_parameters(Device& device, const Gpt2Config& config, std::uint64_t seed);

}  // namespace quire
