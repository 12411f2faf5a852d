// What a benchmark found, as a table for people and as JSON in Google Benchmark's format, so that
// its compare.py reads it.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "kernels/device.h"
#include "report/roofline.h"

namespace quire {

/// The local time with its distance from UTC, "2024-05-31T09:30:00+0200".
std::string iso_time();

/// One measurement. Times are of one iteration.
struct BenchEntry {
  std::string name;  // "decode/gpt2/batch:1"
  std::int64_t iterations = 0;
  double median_seconds = 0, fastest_seconds = 0, slowest_seconds = 0;
  double bytes = 0, flops = 0;  // moved and done by one iteration, counted from shapes
  double items = 0;             // tokens, say, of one iteration
  double bandwidth_ceiling = 0, flops_ceiling = 0;  // measured in the same run; 0 = does not apply
  std::map<std::string, double> counters;           // anything else, by name

  double items_per_second() const { return items / median_seconds; }
  double bytes_per_second() const { return bytes / median_seconds; }
  double flops_per_second() const { return flops / median_seconds; }
};

struct BenchReport {
  std::string date = iso_time();               // of its begin
  std::map<std::string, std::string> context;  // "device", "library", "model", …
  std::vector<BenchEntry> entries;

  std::string to_json() const;
  /// A heading and a row for each entry; only the columns that some entry fills.
  std::vector<std::vector<std::string>> to_rows() const;
};

/// The entries that have bytes and flops, under the ceilings they were measured with, with their
/// rates in GFLOP/s; warm ones are rings. Of those above 100 % of a ceiling
/// it is said why that can be.
Roofline roofline_of(const BenchReport& report, const std::string& title);

/// Calls on a device whose work is queued.
struct BatchedCalls {
  std::function<void(std::int64_t call)> run;  // counted from 0 in each sample
  std::function<void()> before = {};           // before each sample, not timed
  std::int64_t most = std::int64_t{1} << 20;   // calls a sample
};

/// A sample is as many calls between two synchronizations as take a millisecond: what waiting costs
/// is spread over them, and times are of one call. At least ten samples and `least_seconds`; three
/// samples where ten would take more than ten times that. Before them calls go unrecorded until
/// their number is found, one at least. Fills in iterations, times and the counter
/// calls_per_sample.
void time_batches(BenchEntry& entry, Device& device, const BatchedCalls& calls,
                  double least_seconds = 0.5);

/// The times of several runs as median, fastest and slowest.
void summarize(BenchEntry& entry, std::vector<double> seconds);

/// Seconds on a steady clock.
double clock_seconds();

/// Calls `run` until `least_seconds` have passed and at least `least_samples` times, after one
/// warm-up call, and fills in iterations and times.
template <class Run>
void time_runs(BenchEntry& entry, Run&& run, double least_seconds = 0.5, int least_samples = 10) {
  run();
  std::vector<double> seconds;
  const double start = clock_seconds();
  while (static_cast<int>(seconds.size()) < least_samples ||
         clock_seconds() - start < least_seconds) {
    const double begin = clock_seconds();
    run();
    seconds.push_back(clock_seconds() - begin);
  }
  summarize(entry, std::move(seconds));
}

}  // namespace quire
