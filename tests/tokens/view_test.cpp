// Views read what vectors hold, wherever their parts lie.
#include "tokens/view.h"

#include <numeric>

#include "engine/training/fingerprint.h"
#include "kernels/ops.h"
#include "tests/engine/training/tiny_run.h"
#include "tests/support/catch.h"
#include "tests/support/data.h"
#include "tokens/batches.h"

using namespace quire;
using namespace quire::test;

namespace {

/// The same ids in parts of different lengths, every other one in 16 bits.
struct Scattered {
  std::vector<std::vector<std::int32_t>> wide;
  std::vector<std::vector<std::uint16_t>> narrow;

  TokenStream stream(const std::vector<std::int32_t>& ids) {
    std::vector<TokenStream::Part> parts;
    wide.reserve(ids.size());
    narrow.reserve(ids.size());
    for (std::size_t at = 0, part = 0; at < ids.size(); ++part) {
      const std::size_t length = std::min<std::size_t>(part * 7 % 5, ids.size() - at);  // 0 too
      const auto begin = ids.begin() + static_cast<std::ptrdiff_t>(at);
      const auto end = begin + static_cast<std::ptrdiff_t>(length);
      if (part % 2 == 0) {
        parts.emplace_back(std::span<const std::int32_t>(wide.emplace_back(begin, end)));
      } else {
        std::vector<std::uint16_t>& ids16 = narrow.emplace_back();
        for (auto id = begin; id != end; ++id) {
          ids16.push_back(*id == kIgnoredTarget ? 65'535 : static_cast<std::uint16_t>(*id));
        }
        parts.emplace_back(std::span<const std::uint16_t>(ids16));
      }
      at += length;
    }
    return TokenStream(parts);
  }
};

}  // namespace

TEST_CASE("a stream in parts of 16 and 32 bits reads as one") {
  std::vector<std::int32_t> ids = integers(200, 1, 65'535);
  ids[3] = ids[50] = ids[199] = kIgnoredTarget;
  Scattered scattered;
  const TokenStream stream = scattered.stream(ids);
  REQUIRE(stream.size() == 200);
  for (std::int64_t begin = 0; begin <= 200; ++begin) {
    for (const std::int64_t length :
         {std::int64_t{0}, std::int64_t{1}, std::int64_t{9}, 200 - begin}) {
      if (begin + length > 200) continue;
      std::vector<std::int32_t> got(static_cast<std::size_t>(length), -1);
      stream.copy(begin, got);
      CHECK(got == std::vector<std::int32_t>(ids.begin() + begin, ids.begin() + begin + length));
    }
  }
  CHECK(TokenStream().size() == 0);
}

TEST_CASE("a stream is gone through in stretches, all of it once") {
  std::vector<std::int32_t> ids(40'000);
  std::iota(ids.begin(), ids.end(), 0);
  const TokenStream stream({std::span<const std::int32_t>(ids)});
  std::vector<std::int32_t> seen;
  stream.for_each([&](std::span<const std::int32_t> stretch, std::int64_t first) {
    CHECK(first == std::ssize(seen));
    seen.insert(seen.end(), stretch.begin(), stretch.end());
  });
  CHECK(seen == ids);
}

TEST_CASE("rows and fingerprints are those of the vectors, however the ids lie") {
  TokenRecords records = tiny_records(30, 4);
  for (const bool labelled : {false, true}) {
    if (labelled) {
      records.labels = records.ids;
      for (std::size_t i = 0; i < records.labels.size(); i += 3) records.labels[i] = kIgnoredTarget;
    }
    Scattered ids, labels;
    TokenView view;
    view.ids = ids.stream(records.ids);
    if (labelled) view.labels = labels.stream(records.labels);
    view.offsets = records.offsets;
    for (const Packing packing : {Packing::stream, Packing::none, Packing::records}) {
      const Rows want(records, packing, 10), got(view, packing, 10);
      REQUIRE(got.size() == want.size());
      CHECK(got.targets() == want.targets());
      CHECK(got.left_out() == want.left_out());
      std::vector<std::int64_t> all(static_cast<std::size_t>(want.size()));
      std::iota(all.begin(), all.end(), 0);
      const Batch a = want.gather(all), b = got.gather(all);
      CHECK(b.ids == a.ids);
      CHECK(b.targets == a.targets);
    }
    const Gpt2Config model = tiny_model(0);
    const TrainingConfig config = tiny_config("out");
    CHECK(fixed_facts(model, config, view, view) == fixed_facts(model, config, records, records));
  }
}
