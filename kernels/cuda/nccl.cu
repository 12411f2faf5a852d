// DeviceGroup by NCCL, which knows the links between the cards of a machine and between machines.
//
// Like cuBLASLt it is loaded when it is first needed. What is called of it is declared here, as it
// has been since NCCL 2 and must stay for programs to go on working:
// so a build needs nothing of it.
#include <dlfcn.h>

#include <array>
#include <cstring>

#include "kernels/cuda/device_group.h"

namespace quire::cuda {
namespace {

// nccl.h: the communicator is opaque, its name 128 bytes, and these are the numbers of its enums.
using Communicator = void*;
struct UniqueId {
  std::array<char, 128> bytes;
};
constexpr int kSuccess = 0, kInProgress = 7;  // ncclResult_t
constexpr int kFloat32 = 7;                   // ncclDataType_t
constexpr int kSum = 0;                       // ncclRedOp_t

class Library {
 private:
  void* const handle_ = dlopen("libnccl.so.2", RTLD_NOW | RTLD_LOCAL);
  std::string why_unusable_ = handle_ == nullptr ? std::string("NCCL: ") + dlerror() : "";

  template <class Function>
  Function* find(const char* name) {
    if (handle_ == nullptr) return nullptr;
    void* const function = dlsym(handle_, name);
    if (function == nullptr && why_unusable_.empty()) {
      why_unusable_ = std::string("libnccl.so.2 has no ") + name;
    }
    return reinterpret_cast<Function*>(function);
  }

 public:
  const std::string& why_unusable() const { return why_unusable_; }

#define QUIRE_FUNCTION(name, ...) int (*name)(__VA_ARGS__) = find<int(__VA_ARGS__)>(#name)
  QUIRE_FUNCTION(ncclGetUniqueId, UniqueId*);
  QUIRE_FUNCTION(ncclCommInitRank, Communicator*, int size, UniqueId, int rank);
  QUIRE_FUNCTION(ncclCommDestroy, Communicator);
  QUIRE_FUNCTION(ncclCommAbort, Communicator);
  QUIRE_FUNCTION(ncclCommGetAsyncError, Communicator, int* result);
  QUIRE_FUNCTION(ncclReduceScatter, const void* send, void* receive, std::size_t received, int type,
                 int op, Communicator, cudaStream_t);
  QUIRE_FUNCTION(ncclAllGather, const void* send, void* receive, std::size_t sent, int type,
                 Communicator, cudaStream_t);
#undef QUIRE_FUNCTION
  const char* (*ncclGetErrorString)(int) = find<const char*(int)>("ncclGetErrorString");
};

const Library& library() {
  static const Library loaded;
  return loaded;
}

void require(int result, const char* doing) {
  if (result == kSuccess || result == kInProgress) return;
  throw Error(Fault::device, std::string(doing) + ": NCCL: " + library().ncclGetErrorString(result),
              {}, "NCCL_DEBUG=INFO before the command says more");
}

class NcclGroup final : public DeviceGroup {
 public:
  NcclGroup(const std::string& name, int rank, int size, cudaStream_t stream)
      : rank_(rank), size_(size), stream_(stream) {
    UniqueId id = {};
    std::memcpy(id.bytes.data(), name.data(), std::min(name.size(), id.bytes.size()));
    require(library().ncclCommInitRank(&communicator_, size, id, rank), "joining the other cards");
  }
  NcclGroup(const NcclGroup&) = delete;
  NcclGroup& operator=(const NcclGroup&) = delete;
  ~NcclGroup() override {
    if (communicator_ != nullptr) library().ncclCommDestroy(communicator_);
  }

  void reduce_scatter(const View& values) override {
    const auto part = static_cast<std::size_t>(values.count() / size_);
    auto* const row = values.data<float>();
    require(library().ncclReduceScatter(row, row + rank_ * part, part, kFloat32, kSum,
                                        communicator_, stream_),
            "summing over the cards");
  }
  void all_gather(const View& values) override {
    const auto part = static_cast<std::size_t>(values.count() / size_);
    auto* const row = values.data<float>();
    require(
        library().ncclAllGather(row + rank_ * part, row, part, kFloat32, communicator_, stream_),
        "collecting from the cards");
  }
  bool done() override {
    int result = kSuccess;
    require(library().ncclCommGetAsyncError(communicator_, &result), "asking the other cards");
    require(result, "exchange between cards");
    const cudaError_t state = cudaStreamQuery(stream_);
    if (state == cudaErrorNotReady) return false;
    QUIRE_CUDA(state, "exchange between cards");
    return true;
  }
  void abort() override {
    library().ncclCommAbort(communicator_);
    communicator_ = nullptr;
  }

 private:
  const int rank_, size_;
  const cudaStream_t stream_;
  Communicator communicator_ = nullptr;
};

}  // namespace

std::string why_no_groups() {
  return library().why_unusable();
}

std::string name_new_group() {
  UniqueId id = {};
  require(library().ncclGetUniqueId(&id), "naming a group of cards");
  return {id.bytes.data(), id.bytes.size()};
}

std::unique_ptr<DeviceGroup> join_group(const std::string& name, int rank, int size,
                                        cudaStream_t stream) {
  return std::make_unique<NcclGroup>(name, rank, size, stream);
}

}  // namespace quire::cuda
