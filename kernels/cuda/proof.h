// Which kernels a card may use before it has shown that they agree there.
//
// Kernels written for one chip (its own instructions, clusters, launches that depend on each other)
// have twins on the CPU that cannot show everything. They are used once `quire doctor --verify` has
// passed with this build on this card and driver; until then the kernels for all cards do their
// work. What it found is a file in the cache folder for each card, driver and build.
#pragma once

#include <string>

#include "kernels/cuda/error.h"

namespace quire::cuda {

/// What a finding holds for.
struct CardKey {
  std::string card;    ///< "NVIDIA H100 80GB HBM3, compute capability 9.0, 132 processors"
  std::string driver;  ///< "13.0"
  std::string build;   ///< build_id()
};
CardKey key_of(const cudaDeviceProp& card);
/// 13020 as "13.2".
std::string version_text(int version);

/// The lines that a file of the cache folder begins with: "card …", "driver …", "build …".
std::string lines_of(const CardKey& key);

/// Why the kernels of one chip wait, as the end of a sentence; empty where they have passed.
std::string why_unproven(const CardKey& key);
/// Keeps that they passed, or forgets that they did. Throws Error naming file and cause.
void keep_proof(const CardKey& key, bool passed);

}  // namespace quire::cuda
