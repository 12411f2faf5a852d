#include "distributed/launch.h"

#include <algorithm>
#include <array>
#include <cstdlib>

#ifdef QUIRE_WITH_MPI
#include "distributed/mpi_ranks.h"
#endif

namespace quire {

bool is_launched() {
  // Slurm sets its own variables in batch scripts, too, where nobody was started to work together.
  constexpr std::array<const char*, 4> kSetByLaunchers = {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK",
                                                          "PMI_RANK", "MPI_LOCALNRANKS"};
  return std::any_of(kSetByLaunchers.begin(), kSetByLaunchers.end(),
                     [](const char* name) { return std::getenv(name) != nullptr; });
}

#ifdef QUIRE_WITH_MPI

std::string mpi_version() {
  return mpi_library_version();
}

std::unique_ptr<Ranks> join_ranks(std::function<bool()> interrupted) {
  return std::make_unique<MpiRanks>(std::move(interrupted));
}

#else

std::string mpi_version() {
  return "";
}

std::unique_ptr<Ranks> join_ranks(std::function<bool()>) {
  throw Error(Fault::usage, "this build of quire does not know the processes it was started with",
              {"a launcher started it, as mpirun does, and it was built without MPI"},
              "a build where MPI is found (libopenmpi-dev), or without the launcher");
}

#endif

}  // namespace quire
