// Packed records against the same records in rows of their own.
#include <cmath>
#include <map>
#include <numeric>

#include "engine/model/gpt2.h"
#include "tests/engine/training/tiny_run.h"
#include "tests/support/catch.h"
#include "tests/support/compare.h"
#include "tests/support/devices.h"

using namespace quire;
using namespace quire::test;

namespace {

Batch whole(const Rows& rows) {
  std::vector<std::int64_t> which(static_cast<std::size_t>(rows.size()));
  std::iota(which.begin(), which.end(), 0);
  return rows.gather(which);
}

/// The losses of each record, in order. Records differ in their tokens, by which they are known.
std::map<std::vector<std::int32_t>, std::vector<float>> losses_of_records(Gpt2& gpt2,
                                                                          const Batch& batch) {
  const std::vector<float> losses = gpt2.token_losses(batch.view());
  std::map<std::vector<std::int32_t>, std::vector<float>> by_record;
  for (std::size_t i = 0; i < batch.targets.size();) {
    std::size_t end = i;
    std::vector<std::int32_t> ids;
    while (end < batch.targets.size() && batch.targets[end] != kIgnoredTarget) {
      ids.push_back(batch.ids[end]);
      if (batch.targets[end++] == 16) break;  // every record ends with the end of text
    }
    if (!ids.empty()) {
      by_record[ids] = {losses.begin() + static_cast<std::ptrdiff_t>(i),
                        losses.begin() + static_cast<std::ptrdiff_t>(end)};
    }
    i = std::max(end, i + 1);
  }
  return by_record;
}

}  // namespace

TEST_CASE("a packed record has the losses of the record alone, bit for bit where rows are alone") {
  const Gpt2Config model = tiny_model(0.0f);
  const TokenRecords records = tiny_records(20, 3);
  const Rows alone(records, Packing::none, 12), packed(records, Packing::records, 12);
  REQUIRE(packed.size() < alone.size());
  for (const TestDevice& tested : devices_under_test()) {
    INFO(tested.name);
    const Parameters parameters = initialize_parameters(tested.device, model, 11);
    Gpt2 gpt2(tested.device, model, parameters);
    const auto want = losses_of_records(gpt2, whole(alone));
    const auto got = losses_of_records(gpt2, whole(packed));
    CHECK(want.size() > 10);
    REQUIRE(got.size() == want.size());
    for (const auto& [record, losses] : want) {
      REQUIRE(got.contains(record));
      // Two layers' sums, seen through logits and losses of a few units.
      compare_rows(tested.device.rows_alone(), "losses", got.at(record), losses, 256 * kEps);
    }
  }
}

TEST_CASE("packed records have the gradients of the records alone") {
  const Gpt2Config model = tiny_model(0.0f);
  const TokenRecords records = tiny_records(20, 3);
  const Rows alone(records, Packing::none, 12), packed(records, Packing::records, 12);
  const auto device = open_reference_device();
  const Parameters parameters = initialize_parameters(*device, model, 11);
  const auto gradients = [&](const Rows& rows) {
    const Batch batch = whole(rows);
    Gpt2Training training(*device, model, parameters,
                          {.batch = batch.rows, .length = batch.length, .dropout = false});
    training.forward_backward(batch.view(), 1.0f / static_cast<float>(batch.valid_targets), 0);
    std::vector<std::vector<float>> all;
    for (const View& view : training.gradients().tensors()) {
      all.emplace_back(static_cast<std::size_t>(view.count()));
      device->copy_to_host(all.back().data(), view.bytes(), view.size_bytes());
    }
    return all;
  };
  const auto want = gradients(alone), got = gradients(packed);
  for (std::size_t i = 0; i < want.size(); ++i) {
    // Sums over the rows in another order: each of some 100 terms is stored as a float.
    float largest = 0;
    for (const float value : want[i]) largest = std::max(largest, std::abs(value));
    compare(parameters.names()[i].name, got[i], Doubles(want[i].begin(), want[i].end()),
            [&](std::size_t) { return 100 * kEps * static_cast<double>(largest); });
  }
}
