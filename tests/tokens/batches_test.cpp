#include "tokens/batches.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <set>

#include "base/error.h"
#include "base/random.h"
#include "engine/training/training_config.h"
#include "tests/support/catch.h"

using namespace quire;

namespace {

/// Records of the given lengths over the ids 0, 1, 2, …: an id says where it stood.
TokenRecords counting_records(const std::vector<int>& lengths) {
  TokenRecords records;
  for (const int length : lengths) {
    for (int i = 0; i < length; ++i) {
      records.ids.push_back(static_cast<std::int32_t>(records.ids.size()));
    }
    records.offsets.push_back(static_cast<std::int64_t>(records.ids.size()));
  }
  return records;
}

std::vector<std::int64_t> all(const Rows& rows) {
  std::vector<std::int64_t> which(static_cast<std::size_t>(rows.size()));
  std::iota(which.begin(), which.end(), 0);
  return which;
}

}  // namespace

TEST_CASE("a stream makes every token but the first a target exactly once") {
  for (const int total : {2, 3, 8, 9, 10, 16, 17, 18, 100}) {
    INFO(total << " tokens");
    const TokenRecords records = counting_records({total / 2, total - total / 2});
    const Rows rows(records, Packing::stream, 8);
    CHECK(rows.size() == (total - 1 + 7) / 8);
    CHECK(rows.targets() == total - 1);
    const Batch batch = rows.gather(all(rows));
    std::vector<int> seen(static_cast<std::size_t>(total), 0);
    for (std::size_t i = 0; i < batch.targets.size(); ++i) {
      if (batch.targets[i] == kIgnoredTarget) continue;
      CHECK(batch.targets[i] == batch.ids[i] + 1);
      ++seen[static_cast<std::size_t>(batch.targets[i])];
    }
    CHECK(seen[0] == 0);
    CHECK(std::all_of(seen.begin() + 1, seen.end(), [](int n) { return n == 1; }));
    CHECK(batch.tokens == total - 1);
    CHECK(batch.valid_targets == total - 1);
  }
}

TEST_CASE("records without packing are cut to the block and padded by position") {
  const TokenRecords records = counting_records({3, 1, 6, 5, 0, 2});
  const Rows rows(records, Packing::none, 5);
  CHECK(rows.size() == 4);
  CHECK(rows.left_out() == 2);  // one token predicts nothing, no token less
  CHECK(rows.longest() == 4);   // a block of 5 ids has 4 targets
  const Batch batch = rows.gather(all(rows));
  CHECK(batch.rows == 4);
  CHECK(batch.length == 4);
  const std::int32_t x = kIgnoredTarget;
  CHECK(batch.ids ==
        std::vector<std::int32_t>{0, 1, 0, 0, 4, 5, 6, 7, 10, 11, 12, 13, 15, 0, 0, 0});
  CHECK(batch.targets ==
        std::vector<std::int32_t>{1, 2, x, x, 5, 6, 7, 8, 11, 12, 13, 14, 16, x, x, x});
}

TEST_CASE("an end-of-text id that also serves as padding stays a target") {
  // Padding by id would erase the 0 that ends each record, and the model would never learn to stop.
  TokenRecords records{.ids = {5, 6, 0, 7, 0}, .labels = {}, .offsets = {0, 3, 5}};
  const Rows rows(records, Packing::none, 8);
  const Batch batch = rows.gather(all(rows));
  CHECK(batch.targets == std::vector<std::int32_t>{6, 0, 0, kIgnoredTarget});
  CHECK(batch.valid_targets == 3);
}

TEST_CASE("packed records stand side by side, each with positions and a view of its own") {
  const TokenRecords records = counting_records({3, 1, 5, 4, 2, 9});
  const Rows rows(records, Packing::records, 6);
  // Pieces of 2, 4, 3, 1 and, cut to a block of 6 ids, 5: 5 + 1, 4 + 2, 3
  CHECK(rows.size() == 3);
  CHECK(rows.left_out() == 1);
  CHECK(rows.longest() == 6);
  const Batch batch = rows.gather(all(rows));
  const std::int32_t x = kIgnoredTarget;
  using Ids = std::vector<std::int32_t>;
  CHECK(batch.length == 6);
  CHECK(batch.ids == Ids{15, 16, 17, 18, 19, 13, 4, 5, 6, 7, 0, 1, 9, 10, 11, 0, 0, 0});
  CHECK(batch.targets == Ids{16, 17, 18, 19, 20, 14, 5, 6, 7, 8, 1, 2, 10, 11, 12, x, x, x});
  CHECK(batch.positions == Ids{0, 1, 2, 3, 4, 0, 0, 1, 2, 3, 0, 1, 0, 1, 2, 0, 0, 0});
  CHECK(batch.first_key == Ids{0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 4, 4, 0, 0, 0, 3, 4, 5});
  CHECK(batch.tokens == 15);
  CHECK(batch.valid_targets == 15);
}

TEST_CASE("records longer than a row are counted, go on in further rows, or are refused") {
  const TokenRecords records = counting_records({3, 6, 5, 14, 1});
  for (const Packing packing : {Packing::none, Packing::records}) {
    INFO(name_of(packing));
    const Rows cut(records, packing, 5);
    CHECK(cut.cut_records() == 2);
    CHECK(cut.cut_tokens() == 20);
    CHECK(cut.unused_tokens() == 20 - 2 * 4);
    CHECK(cut.left_out() == 1);

    const Rows whole(records, packing, 5, Overflow::split);
    CHECK(whole.cut_records() == 2);
    CHECK(whole.unused_tokens() == 0);
    CHECK(whole.longest() == 5);
    CHECK(whole.targets() == 2 + 5 + 4 + 13);  // all but the first of each
    const Batch batch = whole.gather(all(whole));
    std::map<std::int32_t, int> seen;
    for (std::size_t i = 0; i < batch.targets.size(); ++i) {
      if (batch.targets[i] == kIgnoredTarget) continue;
      CHECK(batch.targets[i] == batch.ids[i] + 1);
      ++seen[batch.targets[i]];
    }
    CHECK(std::ssize(seen) == whole.targets());
    CHECK(!seen.contains(9));  // what begins a record is no target of the one before
    CHECK(!seen.contains(14));

    try {
      Rows(records, packing, 5, Overflow::error);
      FAIL("nothing was thrown");
    } catch (const Error& error) {
      CHECK(error.fault() == Fault::bad_data);
      CHECK(error.message() ==
            "error: 2 records are longer than a row of 5 tokens\n  together they have 20 tokens\n"
            "  try: `overflow` split or truncate, a larger `block_size`, or `packing` stream");
    }
    CHECK_NOTHROW(Rows(records, packing, 14, Overflow::error));
  }
  const Rows stream(records, Packing::stream, 5, Overflow::error);
  CHECK(stream.targets() == 28);  // uses all but the first in any case
  CHECK(stream.cut_records() == 0);
}

TEST_CASE("a record that is cut before its first label is not used at all, and counted so") {
  TokenRecords records = counting_records({6});
  records.labels = {-100, -100, -100, -100, 4, 5};
  const Rows cut(records, Packing::none, 4), whole(records, Packing::none, 4, Overflow::split);
  CHECK(cut.size() == 0);
  CHECK(cut.unused_tokens() == 6);
  REQUIRE(whole.size() == 2);
  CHECK(whole.targets() == 2);
}

TEST_CASE("packing loses no target and leaves little padding") {
  std::vector<int> lengths;
  for (std::uint64_t i = 0; i < 500; ++i) {
    lengths.push_back(1 + static_cast<int>(random_bits({1, 2}, i) % 40));
  }
  const TokenRecords records = counting_records(lengths);
  const Rows alone(records, Packing::none, 64), packed(records, Packing::records, 64);
  CHECK(packed.targets() == alone.targets());
  CHECK(packed.left_out() == alone.left_out());
  const Batch batch = packed.gather(all(packed));
  std::set<std::int32_t> targets;
  for (std::size_t i = 0; i < batch.targets.size(); ++i) {
    if (batch.targets[i] == kIgnoredTarget) continue;
    CHECK(batch.targets[i] == batch.ids[i] + 1);
    targets.insert(batch.targets[i]);
  }
  CHECK(std::ssize(targets) == alone.targets());
  CHECK(static_cast<double>(batch.tokens) > 0.95 * static_cast<double>(batch.ids.size()));
}

TEST_CASE("labels are shifted, and rows without one are left out") {
  TokenRecords records{
      .ids = {1, 2, 3, 4, 5, 6}, .labels = {-100, -100, 3, 4, -100, -100}, .offsets = {0, 3, 6}};
  const Rows rows(records, Packing::none, 8);
  REQUIRE(rows.size() == 1);
  CHECK(rows.left_out() == 1);  // 4 is the first label of its record: nothing comes before it
  const Batch batch = rows.gather(all(rows));
  CHECK(batch.ids == std::vector<std::int32_t>{1, 2});
  CHECK(batch.targets == std::vector<std::int32_t>{-100, 3});
  const Rows stream(records, Packing::stream, 8);
  CHECK(stream.targets() == 2);  // in a stream 3 comes before it
}

TEST_CASE("each epoch is another permutation, the same for the same seed") {
  std::vector<std::uint32_t> sorted(100);
  std::iota(sorted.begin(), sorted.end(), 0u);
  std::set<std::vector<std::uint32_t>> distinct;
  for (const std::uint64_t seed : {1u, 2u}) {
    for (const std::int64_t epoch : {0, 1, 2}) {
      std::vector<std::uint32_t> order = shuffled_order(100, seed, epoch);
      CHECK(order == shuffled_order(100, seed, epoch));
      distinct.insert(order);
      std::sort(order.begin(), order.end());
      CHECK(order == sorted);
    }
  }
  CHECK(distinct.size() == 6);
}

TEST_CASE("a shuffle of four rows has no favourite order") {
  // 24 orders, 1000 expected each, standard deviation sqrt(1000·23/24) = 31: five of them each way.
  std::map<std::vector<std::uint32_t>, int> counts;
  for (std::int64_t epoch = 0; epoch < 24'000; ++epoch) ++counts[shuffled_order(4, 7, epoch)];
  CHECK(counts.size() == 24);
  for (const auto& [order, count] : counts) CHECK(std::abs(count - 1000) < 155);
}

TEST_CASE("an epoch's windows cover every row once, the last one short") {
  const TokenRecords records = counting_records(std::vector<int>(23, 3));
  const Rows rows(records, Packing::none, 8);
  Batches batches(rows, 4, {.seed = 3});
  const TrainingConfig config{
      .num_train_epochs = 2, .per_device_train_batch_size = 4, .gradient_accumulation_steps = 4};
  CHECK(total_steps(config, rows.size()) == 4);  // 6 batches, 2 windows an epoch
  for (int epoch = 0; epoch < 2; ++epoch) {
    std::multiset<std::int32_t> seen;
    std::vector<std::size_t> windows;
    do {
      const std::vector<Batch> window = batches.next_window(4);
      windows.push_back(window.size());
      for (const Batch& batch : window) {
        for (int r = 0; r < batch.rows; ++r) {
          seen.insert(batch.ids[static_cast<std::size_t>(r * batch.length)]);
        }
      }
    } while (!batches.at_epoch_end());
    CHECK(windows == std::vector<std::size_t>{4, 2});
    CHECK(seen.size() == 23);
    CHECK(std::set<std::int32_t>(seen.begin(), seen.end()).size() == 23);
    CHECK(batches.epoch() == Approx(epoch + 1));
  }
}

TEST_CASE("from any position the same windows follow") {
  const TokenRecords records = counting_records(std::vector<int>(11, 4));
  const Rows rows(records, Packing::none, 8);
  Batches straight(rows, 2, {.seed = 5});
  for (int step = 0; step < 9; ++step) {
    const DataPosition position = straight.position();
    const std::vector<Batch> expected = straight.next_window(2);
    Batches resumed(rows, 2, position);
    const std::vector<Batch> window = resumed.next_window(2);
    REQUIRE(window.size() == expected.size());
    for (std::size_t i = 0; i < window.size(); ++i) CHECK(window[i].ids == expected[i].ids);
    CHECK(resumed.position() == straight.position());
  }
}

TEST_CASE("steps of a run follow transformers' rounding") {
  TrainingConfig config{
      .num_train_epochs = 1.5, .per_device_train_batch_size = 8, .gradient_accumulation_steps = 3};
  CHECK(total_steps(config, 100) == 8);  // 13 batches, 5 updates, ceil(7.5)
  config.max_steps = 3;
  CHECK(total_steps(config, 100) == 3);
}
