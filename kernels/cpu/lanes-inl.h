// The product of few rows by a weight whose columns are contiguous, rows of x in the lanes of vectors:
// for each k a vector of x meets one word of each of some columns, broadcast as it is loaded. Nothing is
// transposed but x, and the weight is read from end to end, a block of columns × k ahead of what is
// multiplied: widened, and copied out of rows that lie 4 KB apart, which share a set of the first-level
// cache.
//
// Where rows fill half of the lanes, two parts of the sum go side by side, each in lanes of its own, and
// a broadcast is of a word of either: one load feeds a whole vector all the same. Behind the end of the
// shorter one x is -0 and the weight 0: their product is -0, which leaves any sum as it is.
//
// Included by lanes.cpp once for each target, and by lanes_bf16.cpp, within their namespaces, which have
// put_columns_of(). The operations are those of a class:
//
//   Element, kWordDepth   what the weight is stored in, and k of a word of 32 bits
//   kPartWords            of a part of the sum
//   kFetched              words that are fetched at once, a divisor of kPartWords
//   fetch<kParts>(from, left, to)   kFetched words from `from` on, and the same of the next part beside
//                         them, as far as `left` k go, and zeros; in the order of place_of()
//   kMasks                whether it does so without a branch, which costs more than it brings elsewhere
//   kLanes, Vector, zero(), load(words), broadcast<kParts>(words), multiply_add(x, w, sum)
//   add<kParts>(sums, parts, first, to)   the parts of two columns, in order, onto to[2][kLanes / kParts],
//                         or there where they are the first
//

/// Where the words of number k of a fetch lie: two parts come in turns of four vector lanes each.
template <class Ops, int kParts>
constexpr std::int64_t place_of(std::int64_t k) {
  return kParts == 1 ? k : k / 4 * 4 + k % 4 / 2 * Ops::kFetched + k % 2 * 2;
}

/// A block of the weight, some columns of kParts parts of the sum, and where its words go: [column]
/// [kParts * kPartWords].
template <class Ops, int kParts, int kColumns>
struct Block {
  static constexpr std::int64_t kFetchDepth = Ops::kFetched * Ops::kWordDepth;  // k
  static constexpr std::int64_t kFetches = Ops::kPartWords / Ops::kFetched;     // of a column

  const typename Ops::Element* first = nullptr;
  std::int64_t stride = 0, columns = 0;
  std::int64_t left = 0;  // k from the first one of the block to the end of a column
  std::uint32_t* words = nullptr;

  bool all_columns() const { return columns == kColumns; }
  bool whole() const { return all_columns() && left >= kParts * Ops::kPartWords * Ops::kWordDepth; }
  /// Of the part of the sum that is longest.
  std::int64_t fetches() const {
    return std::min(kFetches, (left + kFetchDepth - 1) / kFetchDepth);
  }
  /// But those before number `done` of a column.
  void fetch(std::int64_t done = 0) const {
    for (std::int64_t j = 0; j < columns; ++j) {
      for (std::int64_t n = done; n < fetches(); ++n) {
        Ops::template fetch<kParts>(first + j * stride + n * kFetchDepth, left - n * kFetchDepth,
                                    words + (j * kFetches + n) * kParts * Ops::kFetched);
      }
    }
  }
};

/// What is fetched of the next block while one is multiplied: nothing; all of it, of which all is there; as
/// much as this block has fetches, of what is there in all columns.
enum class Meanwhile : std::uint8_t { nothing, whole, some };

/// One block, fetched before: x [words][kLanes] by `words`, onto sums[column][kLanes / kParts], or there
/// where it is the first of a column. Where something is fetched, memory from `ahead` on is asked for.
template <class Ops, int kParts, int kColumns, Meanwhile kFetch>
void multiply_block(const std::uint32_t* x, const std::uint32_t* words, std::int64_t fetches,
                    std::int64_t parts, bool first, float* sums,
                    const Block<Ops, kParts, kColumns>& next, const typename Ops::Element* ahead) {
  using Whole = Block<Ops, kParts, kColumns>;
  constexpr int kSteps = 4;  // k that are unrolled
  constexpr std::int64_t kAhead = std::int64_t{kColumns} * kParts * Ops::kWordDepth;
  static_assert(kAhead * sizeof(typename Ops::Element) <= 64 && Ops::kFetched % kSteps == 0);
  typename Ops::Vector sum[kColumns];
#pragma GCC unroll 16
  for (int j = 0; j < kColumns; ++j) sum[j] = Ops::zero();
  for (std::int64_t n = 0; n < fetches; ++n, words += kParts * Ops::kFetched) {
    const typename Ops::Element* from = next.first + n * Whole::kFetchDepth;
    std::uint32_t* to = next.words + n * kParts * Ops::kFetched;
    const std::int64_t left = kFetch == Meanwhile::some
                                  ? next.left - n * Whole::kFetchDepth
                                  : kParts * Ops::kPartWords * Ops::kWordDepth;
    for (std::int64_t k = 0; k < Ops::kFetched; k += kSteps, x += kSteps * Ops::kLanes) {
#pragma GCC unroll 4
      for (int i = 0; i < kSteps; ++i) {
        const auto row = Ops::load(x + i * Ops::kLanes);
        if constexpr (kFetch != Meanwhile::nothing) {
          __builtin_prefetch(ahead, /*rw=*/0, /*locality=*/2);
          ahead += kAhead;
          // This many columns in each of kFetched steps.
          constexpr int kColumnsEach = kColumns * kSteps / Ops::kFetched;
          static_assert(kColumnsEach * Ops::kFetched == kColumns * kSteps);
#pragma GCC unroll 16
          for (int c = i * kColumnsEach / kSteps; c < (i + 1) * kColumnsEach / kSteps; ++c) {
            Ops::template fetch<kParts>(from, left, to);
            from += next.stride;
            to += kParts * Ops::kPartWords;
          }
        }
        const std::uint32_t* word = words + k + place_of<Ops, kParts>(i);
#pragma GCC unroll 16
        for (int j = 0; j < kColumns; ++j) {
          sum[j] = Ops::multiply_add(
              row, Ops::template broadcast<kParts>(word + j * kParts * Ops::kPartWords), sum[j]);
        }
      }
    }
  }
#pragma GCC unroll 8
  for (int j = 0; j < kColumns; j += 2) {
    Ops::template add<kParts>(sum[j], sum[j + 1], parts, first, sums + j * Ops::kLanes / kParts);
  }
}

/// Columns that are put into c at once: a multiple of all kColumns.
constexpr std::int64_t kPutColumns = 48;

/// Puts columns of c where its sums are: each of its panels of `rows` rows as lanes_of() has it.
template <class LanesOf>
void take_columns_of(const Product& p, std::int64_t rows, const LanesOf& lanes_of,
                     std::int64_t first, std::int64_t columns, float* sums) {
  for (std::int64_t row = 0; row < p.m; ++row) {
    const std::int64_t panel = row / rows * rows, lanes = lanes_of(panel);
    for (std::int64_t j = 0; j < columns; ++j) {
      sums[panel * kPutColumns + j * lanes + row - panel] = p.c[row * p.c_stride + first + j];
    }
  }
}

/// Columns [first, first + count) of c, of x as turn_rows() leaves it for these lanes and parts; those
/// behind them are asked for. The last rows, where they fit, are in the lanes of Rest.
template <class Ops, class Rest, int kParts, int kColumns>
void multiply_columns(const Product& p, const std::uint32_t* x, std::int64_t first,
                      std::int64_t count) {
  constexpr std::int64_t kRows = Ops::kLanes / kParts;
  constexpr std::int64_t kPartDepth = Ops::kPartWords * Ops::kWordDepth;
  constexpr std::int64_t kDepth = kParts * kPartDepth;  // k of a block
  static_assert(kPutColumns % kColumns == 0 && kColumns % 2 == 0);
  const auto* b = static_cast<const typename Ops::Element*>(p.b.data);
  const std::int64_t stride = p.b.column_stride, end = first + count;
  const std::int64_t last_whole = std::max<std::int64_t>(p.n - kColumns, 0);
  const std::int64_t panel_words = (p.k + kDepth - 1) / kDepth * Ops::kPartWords;  // of a lane
  alignas(64) std::uint32_t words[2][kColumns * kParts * Ops::kPartWords] = {};
  alignas(64) float sums[kMostRowsInLanes * kPutColumns];
  const auto block = [&](std::int64_t j, std::int64_t k, int buffer) {
    Block<Ops, kParts, kColumns> at;
    at.first = b + j * stride + k;
    at.stride = stride;
    at.columns = std::clamp<std::int64_t>(end - j, 0, kColumns);
    at.left = p.k - k;
    at.words = words[buffer];
    return at;
  };
  int now = 0;
  block(first, 0, now).fetch();
  for (std::int64_t put = first; put < end; put += kPutColumns) {
    const std::int64_t put_columns = std::min(kPutColumns, end - put);
    const bool onto_c = p.output == Product::Output::accumulate;
    const auto lanes_of = [&](std::int64_t row) {
      return row > 0 && p.m - row <= Rest::kLanes ? Rest::kLanes : kRows;
    };
    if (onto_c) take_columns_of(p, kRows, lanes_of, put, put_columns, sums);
    for (std::int64_t j = put; j < put + put_columns; j += kColumns) {
      for (std::int64_t k = 0; k < p.k; k += kDepth, now = 1 - now) {
        const bool last = k + kDepth >= p.k;
        const auto here = block(j, k, now);
        const auto after = block(last ? j + kColumns : j, last ? 0 : k + kDepth, 1 - now);
        const auto* ahead = b + std::min(j + 2 * kColumns, last_whole) * stride + k * kColumns;
        const std::int64_t fetches = here.fetches();
        const bool starts = k == 0 && !onto_c;
        const std::int64_t parts =
            std::min<std::int64_t>(kParts, (p.k - k + kPartDepth - 1) / kPartDepth);
        const std::uint32_t* panel = x + k / kDepth * Ops::kPartWords * Ops::kLanes;
        float* to = sums + (j - put) * kRows;
        if (here.whole() && after.whole()) {
          multiply_block<Ops, kParts, kColumns, Meanwhile::whole>(panel, words[now], fetches, parts,
                                                                  starts, to, after, ahead);
        } else if (Ops::kMasks && here.all_columns() && after.all_columns()) {
          constexpr auto kSome = Ops::kMasks ? Meanwhile::some : Meanwhile::nothing;
          multiply_block<Ops, kParts, kColumns, kSome>(panel, words[now], fetches, parts, starts,
                                                       to, after, ahead);
          after.fetch(fetches);
        } else {
          multiply_block<Ops, kParts, kColumns, Meanwhile::nothing>(panel, words[now], fetches,
                                                                    parts, starts, to, {}, nullptr);
          after.fetch();
        }
        for (std::int64_t row = kRows; row < p.m; row += kRows) {
          panel += panel_words * Ops::kLanes;
          to += kPutColumns * kRows;
          if (p.m - row > Rest::kLanes) {
            multiply_block<Ops, kParts, kColumns, Meanwhile::nothing>(
                panel, words[now], fetches, parts, starts, to, {}, nullptr);
          } else {
            // Where kParts is 2, there are no further rows.
            panel = x + row * panel_words + k / kDepth * Rest::kPartWords * Rest::kLanes;
            to = sums + row * kPutColumns + (j - put) * Rest::kLanes;
            multiply_block<Rest, 1, kColumns, Meanwhile::nothing>(panel, words[now], fetches, parts,
                                                                  starts, to, {}, nullptr);
          }
        }
      }
    }
    for (std::int64_t row = 0; row < p.m; row += kRows) {
      const std::int64_t rows = std::min(kRows, p.m - row);
      put_columns_of(p, sums + row * kPutColumns, lanes_of(row), row, rows, put, put_columns);
    }
  }
}
