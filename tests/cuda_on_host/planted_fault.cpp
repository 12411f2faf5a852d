// planted_fault NAME: runs a kernel with that fault, for a sanitizer to report
// and for ctest to see the report.
#include <cstring>

#include "tests/cuda_on_host/faulty_kernels.h"

int main(int argc, char** argv) {
  using namespace quire::test;
  const auto is = [&](const char* name) { return argc == 2 && std::strcmp(argv[1], name) == 0; };
  if (is("none")) run_add_neighbours<Planted::none>();
  if (is("missing_barrier")) run_add_neighbours<Planted::missing_barrier>();
  if (is("async_copy_without_barrier")) run_add_neighbours<Planted::async_copy_without_barrier>();
  if (is("read_before_waiting")) run_add_neighbours<Planted::read_before_waiting>();
  if (is("race_between_blocks")) run_add_neighbours<Planted::race_between_blocks>();
  if (is("write_beyond_shared_memory")) run_add_neighbours<Planted::write_beyond_shared_memory>();
  if (is("read_beyond_global_memory")) run_add_neighbours<Planted::read_beyond_global_memory>();
  if (is("write_beyond_global_memory")) run_add_neighbours<Planted::write_beyond_global_memory>();
}
