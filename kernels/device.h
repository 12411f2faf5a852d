// A device: what it is, its memory, its ops, and the step of decoding, which it may do whole.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "kernels/communication.h"
#include "kernels/ops.h"

namespace quire {

class Device;

/// Owns device memory, 64-byte aligned. Move-only; must not outlive its device.
class Buffer {
 public:
  Buffer() = default;
  Buffer(Device& device, std::size_t bytes);

  void* data() const { return data_.get(); }
  std::size_t size() const { return data_ ? size_ : 0; }

 private:
  struct Release {
    Device* device;
    void operator()(void* data) const noexcept;
  };
  std::unique_ptr<void, Release> data_;
  std::size_t size_ = 0;
};

/// What a device has made of a sequence of ops, to do it again at less cost than their calls. Must
/// not outlive the device, nor the memory that the ops work on.
class Recording {
 public:
  virtual ~Recording() = default;
  virtual void replay() = 0;
};

/// One more token for each of so many rows: embedding, blocks, head. A decoder keeps one for each
/// number of rows, and hands it to Device::decode_step() whenever it is due.
struct DecodeStep {
  /// The step as ops and copies within the device, the same ones on the same memory each time, and
  /// nothing else. What differs from one time to the next (ids, positions, past and rows of the
  /// caches) lies in that memory before.
  std::function<void()> ops;
  std::unique_ptr<Recording> recording;  ///< the device's own; empty until it has one
};

struct DeviceMemory {
  std::size_t free = 0, total = 0;  // bytes
};

struct DeviceOptions {
  int threads = 0;  ///< CPU threads, 0 = one per core this process may use
  /// To be verified: kernels run that wait for it (Device::why_unproven()).
  bool on_trial = false;
  /// Times the algorithms for products where there is a choice, and keeps what it finds for later
  /// processes (Device::tuned()).
  bool autotune = false;
  /// Is given what a person should know about what is kept, at any time;
  /// a line without a full stop.
  std::function<void(const std::string&)> warn = [](const std::string&) {};
};

class Device {
 public:
  virtual ~Device() = default;

  /// One line for people: "CPU, AVX-512, 2 threads".
  virtual std::string description() const = 0;
  /// True when the device reads host memory: weights can stay in the mapped file.
  virtual bool shares_host_memory() const = 0;
  /// The type in which it keeps activations beside weights of that type.
  virtual DType activation_type(DType weights) const {
    (void)weights;
    return DType::f32;
  }

  /// What the rows of the head's table and the columns of logits are filled up to in training and
  /// scoring. GPT-2's 50,257 columns of 16 bits begin no row but the first on more than 2 bytes.
  virtual int vocab_multiple() const { return 1; }
  /// Rows whose logits are to exist at once, where their memory is no matter. With GPT-2's head,
  /// 256 rows are 59 GFLOP of forward and backward against 0.6 GB of the head and its gradient,
  /// read or written anew for each chunk of rows: about 6 % of a CPU's time.
  virtual std::int64_t head_rows() const { return 256; }

  /// Why its products cannot round their operands (Multiply::in_bf16), to be read after the
  /// device's name; empty where they can.
  virtual std::string why_not_in_bf16() const {
    return "its products take operands as they are stored";
  }

  /// Why those products are not by AMX, the tiles of some CPUs, as the end of a sentence; empty where
  /// they are.
  virtual std::string why_no_amx() const { return "only CPUs have it"; }

  /// Why its products and its embedding cannot read a weight in that format, to be read after the
  /// device's name; empty where they can. Every device reads plain elements.
  virtual std::string why_no_format(WeightFormat format) const {
    return in_blocks(format) ? "its kernels read plain elements, no blocks" : "";
  }

  /// Whether the rows of a product have the same bits however many there are: see the rules in ops.h.
  virtual bool rows_alone() const { return true; }
  /// Names the table of algorithms that were chosen by timing them (DeviceOptions::autotune): with
  /// another one products may have other bits. Empty where nothing was timed.
  virtual std::string tuned() const { return ""; }
  /// What products have taken in with them so far, and what had to follow them, for people:
  /// "gelu_new bfloat16: in the product, gelu_new float16: refused". Empty without such a choice.
  virtual std::string epilogues() const { return ""; }

  /// Whether products of so many rows are faster where the weight is [N, K]. The bits are the same.
  virtual bool prefers_out_in(std::int64_t /*rows*/) const { return false; }

  /// The panels in which products that multiply so read a weight of such elements fastest, whatever
  /// the number of rows, so that it is worth while to lay out all weights anew for a model that
  /// decodes; none: as they come. The bits are the same.
  virtual std::optional<WeightLayout> layout_to_decode(DType /*elements*/, Multiply /*how*/) const {
    return std::nullopt;
  }
  /// Lays out panels [first, first + count) of a weight of plain elements; all will lie at `to`.
  virtual void lay_out(const Weight& from, WeightLayout layout, std::int64_t first,
                       std::int64_t count, void* to);

  /// Where some kernels wait for `quire doctor --verify` to pass on this machine: why they still
  /// do, as the end of a sentence. Empty where none wait.
  virtual std::string why_unproven() const { return ""; }
  /// Keeps for later processes that all kernels passed, or forgets that they once did. Throws Error
  /// naming file and cause where it cannot.
  virtual void keep_proof(bool /*passed*/) {}

  /// The memory of a device that has its own; none where it shares the host's.
  virtual std::optional<DeviceMemory> memory() const { return std::nullopt; }

  /// Memory, uninitialised, aligned to 64 bytes. Throws Error(no_space) when there is none.
  virtual void* allocate(std::size_t bytes) = 0;
  virtual void release(void* data) noexcept = 0;
  virtual void copy(void* to, const void* from, std::size_t bytes) = 0;
  /// Copies `count` pieces of `bytes`, of which each begins `stride` bytes behind the one before.
  virtual void copy_pieces(void* to, const void* from, std::size_t bytes, std::size_t count,
                           std::size_t stride) {
    for (std::size_t at = 0; at < count * stride; at += stride) {
      copy(static_cast<std::byte*>(to) + at, static_cast<const std::byte*>(from) + at, bytes);
    }
  }
  /// from_host may change as soon as the call is back. Both are copy() where the device shares host
  /// memory.
  virtual void copy_to_device(void* to, const void* from_host, std::size_t bytes) {
    copy(to, from_host, bytes);
  }
  virtual void copy_to_host(void* to_host, const void* from, std::size_t bytes) {
    copy(to_host, from, bytes);
  }
  virtual void fill_zero(void* data, std::size_t bytes) = 0;
  /// Waits for what is queued.
  virtual void synchronize() {}

  /// Does a step of decoding: by calling its ops, where nothing is faster.
  /// A device may replace the whole of it. One that repeats the ops (as a graph) keeps what repeats
  /// them in step.recording. One with a kernel of its own for the step would be told there of
  /// weights, caches, inputs and logits as data, which the decoder has at hand where it makes the
  /// step (engine/model/kv_cache.cpp); what it lays out of them once goes into the recording too,
  /// and the weights come as [out, in] where prefers_out_in() of so many rows.
  /// No op of the step writes what another one reads as a weight or a bias, as `past` or `blocks` of
  /// attention_cached, or as a cached slot below past[b]: a device may read these of all ops as soon
  /// as the step begins. What was queued before that is done by then. The logits, and the slots from
  /// past[b] on, have the bits that the ops give wherever Device::rows_alone().
  virtual void decode_step(DecodeStep& step) { step.ops(); }

  /// Of a group that is still to meet: one member asks, and tells the others. Empty where this
  /// device can be in none.
  virtual std::string name_new_group() { return ""; }
  /// All members call it, with numbers from 0 to size - 1, and wait for each other. The group must
  /// not be used without the device.
  virtual std::unique_ptr<DeviceGroup> join_group(const std::string& /*name*/, int /*number*/,
                                                  int /*size*/) {
    return nullptr;
  }

  /// The ops: `void dropout(const Dropout&);` and so on. Each checks what it is given (check.h) and
  /// has the backend do it.
#define QUIRE_DECLARE_OP(name, Struct) void name(const Struct&);
  QUIRE_OPS(QUIRE_DECLARE_OP)
#undef QUIRE_DECLARE_OP
  void layernorm_forward(const LayernormForward& p);
  virtual void layernorm_matmul(const LayernormMatmul& p) {
    residual_layernorm_forward(p.layernorm);
    matmul_forward(p.matmul);
  }
  /// Sum of the squares of all elements of all tensors, in a fixed order.
  double squared_norm(std::span<const ConstView> tensors);

 protected:
  /// What a backend defines, `virtual void do_dropout(const Dropout&) = 0;` and so on, called with
  /// what has been checked. Where residual_layernorm_forward has no branch, and so no sum, x itself
  /// is normalised.
#define QUIRE_DECLARE_OP(name, Struct) virtual void do_##name(const Struct&) = 0;
  QUIRE_OPS(QUIRE_DECLARE_OP)
#undef QUIRE_DECLARE_OP
  virtual double do_squared_norm(std::span<const ConstView> tensors) = 0;
};

inline Buffer::Buffer(Device& device, std::size_t bytes)
    : data_(device.allocate(bytes), {&device}), size_(bytes) {}
inline void Buffer::Release::operator()(void* data) const noexcept {
  device->release(data);
}

}  // namespace quire
