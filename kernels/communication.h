// What devices of several processes exchange.
#pragma once

#include "kernels/tensor.h"

namespace quire {

/// Devices of several processes that exchange floats among themselves, past the host's memory. All
/// of them call the same functions in the same order, on as many floats.
class DeviceGroup {
 public:
  virtual ~DeviceGroup() = default;
  /// `values` are as many equal parts as there are members. Queues what puts the sums over all
  /// members into the part of this one's number; what the others then hold is not said.
  virtual void reduce_scatter(const View& values) = 0;
  /// Queues what puts into each part what it holds on the member of its number.
  virtual void all_gather(const View& values) = 0;
  /// Whether all that was queued on the device is done. Throws Error(device) where it failed.
  virtual bool done() = 0;
  /// Gives up what is queued, for a member has gone. Nothing else can be asked of it then.
  virtual void abort() = 0;
};

}  // namespace quire
