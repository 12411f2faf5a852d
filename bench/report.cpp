#include "bench/report.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <ctime>
#include <nlohmann/json.hpp>
#include <thread>

#include "base/json.h"
#include "base/numbers.h"
#include "base/text.h"

namespace quire {
namespace {

std::string flop_rate(double flops_per_second) {
  return flops_per_second >= 1e12 ? fmt::format("{:.2f} TFLOP", flops_per_second * 1e-12)
                                  : fmt::format("{:.1f} GFLOP", flops_per_second * 1e-9);
}

// Kernels take microseconds, training steps seconds.
std::string milliseconds(double seconds) {
  return fixed_number(seconds * 1e3, seconds < 1e-3 ? 5 : 3);
}

std::string percent(double value, double ceiling) {
  return ceiling > 0 ? fmt::format("{:.0f}%", 100.0 * value / ceiling) : "";
}

/// "0.0421", "12.3", "93,765": a rate in the one unit of the list.
std::string gigaflops(double flops_per_second) {
  const double value = flops_per_second * 1e-9;
  return value < 999.5 ? fmt::format("{:.3g}", value)
                       : with_commas(static_cast<std::int64_t>(std::llround(value)));
}

// Why an entry can be above 100 % of what it is held against.
constexpr const char* kWarmInCache =
    "above 100 %: a warm kernel's data stay in a cache, which is faster than memory, whose rate "
    "the line is";
constexpr const char* kColdInCache =
    "above 100 %: a cache served some of the bytes, which are counted from shapes, or others used "
    "the memory while its line was measured, at the beginning of this run";
constexpr const char* kAboveArithmetic =
    "above 100 %: others used the machine, or its clock was lower, while the level line was "
    "measured, at the beginning of this run";

}  // namespace

std::string iso_time() {
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  localtime_r(&now, &local);
  char text[40];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S%z", &local);
  return text;
}

double clock_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void summarize(BenchEntry& entry, std::vector<double> seconds) {
  std::sort(seconds.begin(), seconds.end());
  entry.iterations = static_cast<std::int64_t>(seconds.size());
  entry.median_seconds = seconds[seconds.size() / 2];
  entry.fastest_seconds = seconds.front();
  entry.slowest_seconds = seconds.back();
}

void time_batches(BenchEntry& entry, Device& device, const BatchedCalls& calls,
                  double least_seconds) {
  constexpr double kSample = 1e-3;
  const auto sample = [&](std::int64_t count) {
    if (calls.before) calls.before();
    device.synchronize();
    const double begin = clock_seconds();
    for (std::int64_t call = 0; call < count; ++call) calls.run(call);
    device.synchronize();
    return clock_seconds() - begin;
  };
  sample(1);
  std::int64_t count = 1;
  double took = sample(count);
  while (took < kSample && count < calls.most) {
    // A little more than asked for, and not all at once: the first calls may be slow ones.
    const double wanted = 1.2 * kSample / std::max(took, 1e-7) * static_cast<double>(count);
    count = std::min({calls.most, 16 * count, static_cast<std::int64_t>(wanted) + 1});
    took = sample(count);
  }
  std::vector<double> seconds;
  const double start = clock_seconds();
  for (;;) {
    const double passed = clock_seconds() - start;
    const std::size_t samples = seconds.size();
    if (samples >= 10 && passed >= least_seconds) break;
    if (samples >= 3 && passed >= 10 * least_seconds) break;
    seconds.push_back(sample(count) / static_cast<double>(count));
  }
  summarize(entry, std::move(seconds));
  entry.iterations *= count;
  entry.counters["calls_per_sample"] = static_cast<double>(count);
}

std::string BenchReport::to_json() const {
  nlohmann::ordered_json json;
  json["context"] = {{"date", date},
                     {"num_cpus", std::thread::hardware_concurrency()},
                     {"executable", "quire"},
                     {"library_build_type", "release"}};
  for (const auto& [key, value] : context) json["context"][key] = value;
  json["benchmarks"] = nlohmann::ordered_json::array();
  for (const BenchEntry& entry : entries) {
    nlohmann::ordered_json row = {{"name", entry.name},
                                  {"run_name", entry.name},
                                  {"run_type", "iteration"},
                                  {"iterations", entry.iterations},
                                  {"real_time", entry.median_seconds * 1e9},
                                  {"cpu_time", entry.median_seconds * 1e9},
                                  {"time_unit", "ns"},
                                  {"fastest", entry.fastest_seconds * 1e9},
                                  {"slowest", entry.slowest_seconds * 1e9}};
    if (entry.items > 0) row["items_per_second"] = entry.items_per_second();
    if (entry.bytes > 0) row["bytes_per_second"] = entry.bytes_per_second();
    if (entry.flops > 0) row["flops_per_second"] = entry.flops_per_second();
    if (entry.bandwidth_ceiling > 0) {
      row["bandwidth_ceiling"] = entry.bandwidth_ceiling;
      row["percent_of_bandwidth"] = 100.0 * entry.bytes_per_second() / entry.bandwidth_ceiling;
    }
    if (entry.flops_ceiling > 0) {
      row["flops_ceiling"] = entry.flops_ceiling;
      row["percent_of_flops"] = 100.0 * entry.flops_per_second() / entry.flops_ceiling;
    }
    for (const auto& [key, value] : entry.counters) row[key] = value;
    json["benchmarks"].push_back(row);
  }
  return json_text(json, 2) + "\n";
}

std::vector<std::vector<std::string>> BenchReport::to_rows() const {
  std::vector<std::vector<std::string>> rows = {{"benchmark", "median ms", "spread", "items/s",
                                                 "bytes/s", "of memory", "flops/s", "of peak",
                                                 "of ceiling"}};
  for (const BenchEntry& e : entries) {
    const auto ceiling = e.counters.find("percent_of_ceiling");
    rows.push_back(
        {e.name, milliseconds(e.median_seconds),
         fmt::format("{:.0f}%", 100.0 * (e.slowest_seconds - e.fastest_seconds) / e.median_seconds),
         e.items > 0 ? fixed_number(e.items_per_second(), 1) : "",
         e.bytes > 0 ? human_bytes(e.bytes_per_second()) : "",
         e.bytes > 0 ? percent(e.bytes_per_second(), e.bandwidth_ceiling) : "",
         e.flops > 0 ? flop_rate(e.flops_per_second()) : "",
         e.flops > 0 ? percent(e.flops_per_second(), e.flops_ceiling) : "",
         ceiling == e.counters.end() ? "" : fmt::format("{:.0f}%", ceiling->second)});
  }
  for (std::size_t column = rows[0].size(); column-- > 0;) {
    const bool empty = std::all_of(rows.begin() + 1, rows.end(),
                                   [&](const auto& row) { return row[column].empty(); });
    if (!empty) continue;
    for (auto& row : rows) row.erase(row.begin() + column);
  }
  return rows;
}

Roofline roofline_of(const BenchReport& report, const std::string& title) {
  Roofline roofline{.title = title};
  for (const BenchEntry& entry : report.entries) {
    if (entry.bytes <= 0 || entry.flops <= 0) continue;
    roofline.bytes_per_second = std::max(roofline.bytes_per_second, entry.bandwidth_ceiling);
    roofline.flops_per_second = std::max(roofline.flops_per_second, entry.flops_ceiling);
    const auto percent = entry.counters.find("percent_of_ceiling");
    const double share = percent == entry.counters.end() ? 0 : percent->second;
    const bool by_memory =
        entry.bytes * entry.flops_ceiling > entry.flops * entry.bandwidth_ceiling;
    const bool warm = entry.name.ends_with("/warm");
    roofline.points.push_back({.name = entry.name,
                               .intensity = entry.flops / entry.bytes,
                               .flops_per_second = entry.flops_per_second(),
                               .note = gigaflops(entry.flops_per_second()) + " GFLOP/s" +
                                       (share > 0 ? fmt::format(", {:.0f}%", share) : ""),
                               .hollow = warm,
                               // What is not shown as more than 100 % wants no word.
                               .why = share < 100.5 ? ""
                                      : !by_memory  ? kAboveArithmetic
                                      : warm        ? kWarmInCache
                                                    : kColdInCache});
  }
  return roofline;
}

}  // namespace quire
