// Cards of several processes that sum and collect among themselves: NCCL on GPUs (nccl.cu), shared
// memory where the kernels run on the CPU (tests/cuda_on_host/device_group.cpp).
#pragma once

#include <memory>
#include <string>

#include "kernels/cuda/error.h"
#include "kernels/device.h"

namespace quire::cuda {

/// Why there are no groups here, as the end of a sentence; empty where there are.
std::string why_no_groups();
/// Of a group that is still to meet, different from all others.
std::string name_new_group();
std::unique_ptr<DeviceGroup> join_group(const std::string& name, int rank, int size,
                                        cudaStream_t stream);

}  // namespace quire::cuda
