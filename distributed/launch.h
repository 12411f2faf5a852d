// Whether this process is one of several that a launcher has started to work together, and how it
// meets the others. Launchers are MPI's: mpirun and mpiexec of Open MPI and MPICH, and Slurm's srun
// where it speaks their protocol (--mpi=pmix or pmi2).
#pragma once

#include <functional>
#include <memory>

#include "engine/training/ranks.h"

namespace quire {

/// True in a process that a launcher started, be it as the only one.
bool is_launched();

/// What MPI was built with, "Open MPI v4.1.4, …", or empty for a build without.
std::string mpi_version();

/// Meets the other processes; to be called once, and before that nothing is written, as all of them
/// would. `interrupted` says whether the user asked to end: who waits for others in vain then gives
/// up. Throws Error(usage) in a build without MPI, which cannot know the others.
std::unique_ptr<Ranks> join_ranks(std::function<bool()> interrupted);

}  // namespace quire
