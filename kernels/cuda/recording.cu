// Work that is launched as one: a CUDA graph.
//
// A decode step of GPT-2 124M is 64 kernels that run a few microseconds each, about as long as the
// host takes to launch one. As a graph they are one launch.
#include <utility>
#include <vector>

#include "kernels/cuda/device.h"

namespace quire::cuda {
namespace {

/// What the stream is given while it lives becomes a graph instead of being done.
class Capture {
 public:
  Capture(cudaStream_t stream, bool& recording) : stream_(stream), recording_(recording) {
    QUIRE_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "recording");
    recording_ = true;
  }
  Capture(const Capture&) = delete;
  Capture& operator=(const Capture&) = delete;
  ~Capture() {
    if (recording_) cudaStreamEndCapture(stream_, &graph_);
    recording_ = false;
    if (graph_ != nullptr) cudaGraphDestroy(graph_);
  }

  cudaGraph_t end() {
    recording_ = false;
    QUIRE_CUDA(cudaStreamEndCapture(stream_, &graph_), "recording");
    return graph_;
  }

 private:
  cudaStream_t stream_;
  bool& recording_;  // whether one is under way
  cudaGraph_t graph_ = nullptr;
};

class CudaGraph final : public Recording {
 public:
  CudaGraph(cudaGraph_t graph, cudaStream_t stream, std::vector<std::shared_ptr<void>> kept)
      : stream_(stream), kept_(std::move(kept)) {
    QUIRE_CUDA(cudaGraphInstantiate(&executable_, graph, 0), "recording");
  }
  ~CudaGraph() override { cudaGraphExecDestroy(executable_); }

  void replay() override { QUIRE_CUDA(cudaGraphLaunch(executable_, stream_), "replaying"); }

 private:
  cudaStream_t stream_;
  cudaGraphExec_t executable_ = nullptr;
  std::vector<std::shared_ptr<void>> kept_;  // memory of the device that the kernels work in
};

}  // namespace

void CudaDevice::decode_step(DecodeStep& step) {
  if (step.recording) return step.recording->replay();
  // Once for its results, and so that algorithms are chosen and scratch is there: neither can be
  // done while the stream is captured.
  step.ops();
  Capture capture(stream_, recording_);
  step.ops();
  step.recording = std::make_unique<CudaGraph>(
      capture.end(), stream_, std::vector{scratch_.data, arrivals_.data, aligned_.data});
}

}  // namespace quire::cuda
