// quire doctor: what this machine has, how fast it is, and which models fit.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "base/machine.h"
#include "base/text.h"
#include "bench/ceilings.h"
#include "cli/command.h"
#include "cli/device_flags.h"
#include "cli/doctor_verify.h"
#include "cli/terminal.h"
#include "distributed/launch.h"
#include "engine/formats/packed_weights.h"
#include "engine/model/kv_cache.h"
#include "engine/training/trainer.h"
#include "kernels/open_device.h"
#include "pipeline/memory_plan.h"

namespace quire {
namespace {

struct ModelFit {
  std::string name;
  std::int64_t parameters = 0;
  double generate_f32 = 0, generate_16bit = 0, generate_int8 = 0, generate_int4 = 0;  // bytes
  double train = 0, lora = 0;
  double decode_limit = 0;  // tokens/s when every 16-bit weight is read once a token
  double train_limit = 0;   // tokens/s when every flop runs at the matrix product's speed
};

// One row of text at the model's full context; training with one row a step.
ModelFit fit_of(const char* name, const Device& device, double bandwidth, double flops) {
  const Gpt2Config config = Gpt2Config::preset(name).value();
  ModelFit fit{.name = name, .parameters = config.parameter_count()};
  const double parameters = static_cast<double>(fit.parameters);
  const double cache = static_cast<double>(
      Gpt2Decoder::bytes(config, /*batch=*/1, config.n_positions, /*max_new=*/config.n_positions));
  fit.generate_f32 = 4 * parameters + cache;
  fit.generate_16bit = 2 * parameters + cache;
  const auto quantised = [&](Quantisation to) {
    return static_cast<double>(quantised_bytes(config, to, DType::f32)) + cache;
  };
  fit.generate_int8 = quantised(Quantisation::int8);
  fit.generate_int4 = quantised(Quantisation::int4);
  TrainingConfig training;
  training.per_device_train_batch_size = 1;
  const auto planned = [&] {
    return static_cast<double>(bytes_of(training_memory_plan(config, training, device)));
  };
  fit.train = planned();
  training.lora.r = 8;
  fit.lora = planned();
  fit.decode_limit = bandwidth / (2 * parameters);
  fit.train_limit = flops / training_flops(config, 1, config.n_positions);
  return fit;
}

std::string fits(double bytes, const MemoryRoom& room) {
  const bool fits = bytes <= static_cast<double>(room.available);
  return human_bytes(bytes) + (fits ? " fits" : " no");
}

std::string about_cuda(const Device& device, const Machine& machine) {
  if (device.memory()) return "used";
  if (!built_with_cuda() && machine.nvidia_driver.empty()) {
    return "not used: no NVIDIA driver is loaded";
  }
  const std::string reason = why_no_cuda();
  return reason.empty() ? "can be used" : "not used: " + reason;
}

/// Whether a CPU's products in bfloat16 are by its tiles.
std::string about_amx(const Device& device) {
  const std::string reason = device.why_no_amx();
  return reason.empty() ? "used" : "not used: " + reason;
}

/// Products in bfloat16, for --bf16.
struct NarrowProducts {
  double flops = 0;     ///< a second; 0 where the device has none
  std::string why_not;  ///< there are none
};

NarrowProducts narrow_products(Device& device) {
  if (device.activation_type(DType::bf16) != DType::bf16) {
    const std::string reason = device.why_not_in_bf16();
    if (!reason.empty()) return {.why_not = reason};
  }
  return {.flops = device.shares_host_memory() ? measure_matmul(device, DType::bf16, 0.3)
                                               : measure_large_matmul(device, DType::bf16, 0.3)};
}

/// What there is to say of a machine.
struct Findings {
  Machine machine;
  int threads = 0;
  std::unique_ptr<Device> device;
  std::optional<DeviceMemory> card;
  MemoryRoom room;
  Ceilings ceilings;
  NarrowProducts narrow;
  std::vector<ModelFit> models;
};

Findings find_out(const DeviceFlags& flags) {
  Findings found{.machine = inspect_machine(), .device = flags.open()};
  Device& device = *found.device;
  found.card = device.memory();
  found.room = memory_room(device);
  found.threads = flags.threads > 0 ? flags.threads : found.machine.cores;
  found.ceilings = measure_ceilings(
      device, {.threads = found.threads,
               .seconds = 0.3,
               .bytes = std::min(std::size_t{1} << 27,
                                 static_cast<std::size_t>(found.room.available) / 4)});
  found.narrow = narrow_products(device);
  for (const char* name : {"tiny", "gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl"}) {
    found.models.push_back(
        fit_of(name, device, found.ceilings.read_bytes_per_second,
               std::max(found.ceilings.gemm_flops_per_second, found.narrow.flops)));
  }
  return found;
}

nlohmann::ordered_json to_json(const Findings& found) {
  nlohmann::ordered_json fit_list = nlohmann::ordered_json::array();
  for (const ModelFit& fit : found.models) {
    fit_list.push_back({{"model", fit.name},
                        {"parameters", fit.parameters},
                        {"generate_bytes_float32", fit.generate_f32},
                        {"generate_bytes_16bit", fit.generate_16bit},
                        {"generate_bytes_int8", fit.generate_int8},
                        {"generate_bytes_int4", fit.generate_int4},
                        {"train_bytes", fit.train},
                        {"lora_bytes", fit.lora},
                        {"decode_tokens_per_second_limit", fit.decode_limit},
                        {"train_tokens_per_second_limit", fit.train_limit}});
  }
  nlohmann::ordered_json report = {
      {"version", QUIRE_VERSION},
      {"device", found.device->description()},
      {"processor", found.machine.processor},
      {"cores", found.machine.cores},
      {"threads", found.threads},
      {"memory_total", found.machine.memory_total},
      {"memory_available", found.machine.memory_available},
      {"read_bytes_per_second", found.ceilings.read_bytes_per_second},
      {"fma_flops_per_second", found.ceilings.fma_flops_per_second},
      {"matmul_flops_per_second", found.ceilings.gemm_flops_per_second},
      {"bf16_matmul_flops_per_second", found.narrow.flops},
      {"amx", about_amx(*found.device)},
      {"cuda", about_cuda(*found.device, found.machine)},
      {"mpi", mpi_version()},
      {"models", fit_list}};
  if (found.card) {
    report["device_memory_total"] = found.card->total;
    report["device_memory_available"] = found.room.available;
    report["why_unproven"] = found.device->why_unproven();
    report["autotune_table"] = found.device->tuned();
  }
  return report;
}

void fact(std::string_view label, std::string_view text) {
  print_lines(fmt::format("  {:<12}{}\n", label, text));
}

void print_machine(const Findings& found) {
  const auto bytes = [](auto count) { return human_bytes(static_cast<double>(count)); };
  const auto gigaflops = [](double flops) { return fixed_number(flops / 1e9, 0); };
  print_lines(fmt::format("Quire {}\n\n", QUIRE_VERSION));
  fact("device", found.device->description());
  fact("processor",
       fmt::format("{}, {}", found.machine.processor, counted(found.machine.cores, "core")));
  fact("memory", fmt::format("{}, {} available", bytes(found.machine.memory_total),
                             bytes(found.machine.memory_available)));
  if (found.card) {
    fact("card", fmt::format("{} of memory, {} available", bytes(found.card->total),
                             bytes(found.room.available)));
    const std::string why_unproven = found.device->why_unproven(), tuned = found.device->tuned();
    fact("verified", why_unproven.empty()
                         ? "with this build, on this card and driver"
                         : "no, so kernels of one chip are not used: " + why_unproven);
    if (!tuned.empty()) {
      fact("products", "by the algorithms that --autotune found, table " + tuned);
    }
  }
  fact("reading", bytes(found.ceilings.read_bytes_per_second) + "/s");
  fact("arithmetic",
       gigaflops(found.ceilings.gemm_flops_per_second) + " GFLOP/s in matrix products" +
           (found.card ? ""
                       : ", " + gigaflops(found.ceilings.fma_flops_per_second) + " in registers"));
  fact("bfloat16", found.narrow.why_not.empty()
                       ? gigaflops(found.narrow.flops) + " GFLOP/s in matrix products: train --bf16"
                       : "not used: " + found.narrow.why_not);
  if (!found.card) fact("AMX", about_amx(*found.device));
  fact("CUDA", about_cuda(*found.device, found.machine));
  const std::string mpi = mpi_version();
  fact("processes", (mpi.empty() ? "one: this build is without MPI" : mpi) + "\n");
}

void print_models(const Findings& found) {
  std::vector<std::vector<std::string>> table = {{"model", "parameters", "generate 16-bit",
                                                  "float32", "int8", "int4", "train", "LoRA",
                                                  "decode tokens/s", "train tokens/s"}};
  const std::string why_no_blocks = found.device->why_no_format(WeightFormat::q8_0);
  const auto in_blocks = [&](double bytes) {
    return why_no_blocks.empty() ? fits(bytes, found.room) : "no";
  };
  for (const ModelFit& fit : found.models) {
    table.push_back({fit.name, human_count(static_cast<double>(fit.parameters)),
                     fits(fit.generate_16bit, found.room), fits(fit.generate_f32, found.room),
                     in_blocks(fit.generate_int8), in_blocks(fit.generate_int4),
                     fits(fit.train, found.room), fits(fit.lora, found.room),
                     "< " + human_count(fit.decode_limit), "< " + human_count(fit.train_limit)});
  }
  print(format_table(table, output_columns()));
  print_lines(
      "\n" +
      flow("Memory is for one row of the whole context; training keeps float32 weights, gradients "
           "and "
           "two moments, LoRA of rank 8 float32 weights alone. Tokens/s are what reading and "
           "matrix products (the fastest kind) allow at most.",
           std::min(output_columns(), 100), "  ") +
      "\n");
}

int run_doctor(const std::vector<std::string>& arguments) {
  Flags flags(
      "doctor", "[OPTION...]",
      "Shows what this machine has, how fast it is, and which models fit (about two seconds).");
  DeviceFlags device_flags;
  bool as_json = false, verifies = false;
  flags.group("Machine");
  device_flags.add_to(flags);
  flags.add("verify", verifies,
            "compare every op and a small model on the device with the CPU instead; exit code 7 "
            "where something disagrees");
  flags.add("json", as_json, "one JSON object on stdout");
  flags.add_quiet();
  if (!flags.parse(arguments)) return 0;

  if (verifies) {
    device_flags.on_trial = true;
    verify_device(*device_flags.open(), as_json);
    return 0;
  }
  const Findings found = find_out(device_flags);
  if (as_json) {
    print(json_text(to_json(found)) + "\n");
    return 0;
  }
  print_machine(found);
  print_models(found);
  return 0;
}

}  // namespace

const Command kDoctorCommand = {"doctor", "what this machine has, and which models fit",
                                run_doctor};

}  // namespace quire
