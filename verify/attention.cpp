// Attention over whole rows and against a cache.
//
// Bounds go by the largest there is of each size: a score is a sum of D products, at most
// scale·|q|·|k|; its error, and that of its distance to the largest score, is what the exponential
// turns into a relative error of p; the sum under the fraction and the sum over the values have T
// terms. 16-bit types round each p, and each p·(d_p - mean), once.
#include <algorithm>

#include "verify/trial.h"

namespace quire::verify {
namespace {

struct Case {
  std::int64_t B, T, H, D;
  bool padded = false;
  float dropout = 0.0f;
  std::int64_t C() const { return H * D; }
  float scale() const { return 1.0f / std::sqrt(static_cast<float>(D)); }
  std::string text() const {
    return fmt::format("{} x {} tokens, {} heads of {} {} {}", B, T, H, D, padded ? "padded" : "",
                       dropout > 0.0f ? "dropout" : "");
  }
};

/// The largest length of a head's part of a row: `parts` of C channels lie side by side, the
/// `part`-th counts.
double longest(const std::vector<float>& rows, const Case& c, std::int64_t parts,
               std::int64_t part) {
  double most = 0;
  for (std::int64_t row = 0; row < c.B * c.T; ++row) {
    for (std::int64_t h = 0; h < c.H; ++h) {
      const auto first = static_cast<std::size_t>((row * parts + part) * c.C() + h * c.D);
      double squares = 0;
      for (std::size_t d = 0; d < static_cast<std::size_t>(c.D); ++d) {
        squares += double{rows[first + d]} * rows[first + d];
      }
      most = std::max(most, std::sqrt(squares));
    }
  }
  return most;
}

/// What p may be off by, as a part of it, on one device.
double of_p(const Case& c, const std::vector<float>& qkv) {
  const double score = c.scale() * longest(qkv, c, 3, 0) * longest(qkv, c, 3, 1);
  return 2.0 * (real(c.D) + 8.0) * kEps * score + (real(c.T) + 16.0) * kEps;
}

std::vector<std::int32_t> first_keys(const Case& c) {
  std::vector<std::int32_t> first;
  for (std::int64_t b = 0; b < c.B; ++b) {
    first.insert(first.end(), static_cast<std::size_t>(c.T),
                 static_cast<std::int32_t>(c.padded ? b * 3 % c.T : 0));
  }
  return first;
}

struct Rows {
  Tensor out, lse, qkv, first;
};

AttentionForward forward_op(const Rows& r, const Case& c, const Side& s) {
  return {.out = r.out(s),
          .lse = r.lse(s),
          .qkv = r.qkv(s),
          .first_key = r.first(s),
          .heads = static_cast<int>(c.H),
          .scale = c.scale(),
          .dropout = c.dropout,
          .key = {.seed = 8, .stream = 2}};
}

void forward_and_backward(Bench& bench, DType dtype, const Case& c) {
  const std::int64_t N = c.B * c.T, C = c.C();
  const double round = half_ulp(dtype, 1.0), kept = 1.0 / (1.0 - c.dropout);
  const std::vector<float> numbers = normal(N * 3 * C, static_cast<std::uint64_t>(N));
  const auto rows = [&](Trial& t) {
    return Rows{t.output({c.B, c.T, C}), t.output({c.B, c.H, c.T}, DType::f32),
                t.input({c.B, c.T, 3 * C}, numbers), t.integers({c.B, c.T}, first_keys(c))};
  };
  {
    Trial t(bench, "attention_forward", c.text(), dtype);
    const Rows r = rows(t);
    t.run([&](const Side& s) { s.device.attention_forward(forward_op(r, c, s)); });
    // Values are at most `most` in size, and the p of a query add up to 1, or `kept` of it.
    const std::vector<float> qkv = t.host(r.qkv, Side::trusted);
    const double most = largest(qkv);
    const double relative = 2.0 * of_p(c, qkv) + round;
    t.compare(r.out, [&](std::size_t i) {
      return stored(dtype, t.want(r.out, i), relative * kept * most);
    });
    const double of_lse = 2.0 * of_p(c, qkv) + 8.0 * kEps * std::log(real(c.T) + 1.0);
    t.compare(
        r.lse, [&](std::size_t i) { return of_lse + 4.0 * kEps * std::abs(t.want(r.lse, i)); },
        "lse");
  }
  Trial t(bench, "attention_backward", c.text(), dtype);
  const Rows r = rows(t);
  const Tensor d_qkv = t.output({c.B, c.T, 3 * C}), sums = t.output({c.B, c.T, 3 * C}, DType::f32),
               d_out = t.input({c.B, c.T, C});
  const Tensor ones =
      t.input({c.B, c.T, C}, std::vector<float>(static_cast<std::size_t>(N * C), 1.0f));
  const auto backward = [&](const Rows& from, const Tensor& to, const Tensor& of, const Side& s) {
    const AttentionForward f = forward_op(from, c, s);
    s.device.attention_backward({.d_qkv = to(s),
                                 .d_out = of(s),
                                 .out = f.out,
                                 .lse = f.lse,
                                 .qkv = f.qkv,
                                 .first_key = f.first_key,
                                 .heads = f.heads,
                                 .scale = f.scale,
                                 .dropout = f.dropout,
                                 .key = f.key});
  };
  t.run([&](const Side& s) {
    s.device.attention_forward(forward_op(r, c, s));
    backward(r, d_qkv, d_out, s);
  });
  // With ones for d_out the values' gradient is the sum of a key's p over all queries.
  t.run_trusted([&](const Side& s) { backward(r, sums, ones, s); });
  const std::vector<float> qkv = t.host(r.qkv, Side::trusted);
  const double g = longest(t.host(d_out, Side::trusted), c, 1, 0);
  const double d_p = kept * g * longest(qkv, c, 3, 2);     // and the mean of d_p is no larger
  const double p_off = 2.0 * of_p(c, qkv) + of_p(c, qkv);  // out and lse are each device's own
  // out was stored in 16 bits before its product with d_out.
  const double of_mean = round * d_p;
  const double of_d_score =
      c.scale() *
      (2.0 * d_p * (p_off + 2.0 * (real(c.D) + real(c.T) + 16.0) * kEps + round) + of_mean);
  t.compare(d_qkv, [&](std::size_t i) {
    const std::size_t width = static_cast<std::size_t>(C), part = i / width % 3;
    if (part == 0) return stored(dtype, t.want(d_qkv, i), of_d_score * longest(qkv, c, 3, 1));
    const std::size_t value = i - i % (3 * width) + 2 * width + i % width;
    const double weight = std::max(std::abs(t.want(sums, value)), 0.0);
    if (part == 1) {
      // Dropout hides a key's p from its sum, not from its gradient's error: T queries at most.
      const double of_key = c.dropout > 0.0f ? real(c.T) : weight * (1.0 + p_off);
      return stored(dtype, t.want(d_qkv, i), of_d_score * longest(qkv, c, 3, 0) * of_key);
    }
    return stored(dtype, t.want(d_qkv, i),
                  g * weight * (p_off + 2.0 * (real(c.T) + 8.0) * kEps + 2.0 * round));
  });
}

/// A prompt of T tokens, then three more one at a time.
void cached(Bench& bench, DType dtype, const Case& c) {
  const std::int64_t C = c.C(), M = (c.T + 3 + kCacheBlock - 1) / kCacheBlock;
  Trial t(bench, "attention_cached", c.text(), dtype);
  const Shape cache = {c.H, c.B * M * kCacheBlock, c.D};
  const Tensor keys = t.input(cache), values = t.input(cache);
  std::vector<std::int32_t> backwards;
  for (auto n = c.B * M; n-- > 0;) backwards.push_back(static_cast<std::int32_t>(n * kCacheBlock));
  const Tensor blocks = t.integers({c.B, M}, backwards);
  std::int64_t past = 0;
  for (const std::int64_t count : {c.T, std::int64_t{1}, std::int64_t{1}, std::int64_t{1}}) {
    const Tensor out = t.output({c.B, count, C}),
                 qkv = t.input({c.B, count, 3 * C},
                               normal(c.B * count * 3 * C, static_cast<std::uint64_t>(past) + 3));
    const Tensor before = t.integers(
        {c.B},
        std::vector<std::int32_t>(static_cast<std::size_t>(c.B), static_cast<std::int32_t>(past)));
    t.run([&](const Side& s) {
      s.device.attention_cached({.out = out(s),
                                 .k_cache = keys(s),
                                 .v_cache = values(s),
                                 .qkv = qkv(s),
                                 .past = before(s),
                                 .blocks = blocks(s),
                                 .heads = static_cast<int>(c.H),
                                 .scale = c.scale()});
    });
    t.forget();
    const double most = largest(t.host(values, Side::trusted));
    const double factor =
        std::max(largest(t.host(qkv, Side::trusted)), largest(t.host(keys, Side::trusted)));
    const double score = c.scale() * real(c.D) * factor * factor, terms = real(past + count);
    const double relative =
        4.0 * (real(c.D) + 8.0) * kEps * score + 2.0 * (terms + 16.0) * kEps + half_ulp(dtype, 1.0);
    t.compare(
        out, [&](std::size_t i) { return stored(dtype, t.want(out, i), relative * most); },
        fmt::format("after {}", past));
    past += count;
  }
  t.compare(
      keys, [](std::size_t) { return 0.0; }, "cached keys");
  t.compare(
      values, [](std::size_t) { return 0.0; }, "cached values");
}

}  // namespace

void verify_attention(Bench& bench) {
  // Tiles of 64 and 128 with what is left over, and heads that have no tiles.
  const Case cases[] = {{2, 37, 2, 64, true},
                        {1, 130, 1, 64},
                        {1, 70, 2, 32, false, 0.2f},
                        {2, 9, 3, 5, true},
                        {1, 66, 1, 128}};
  for (const DType dtype : types_of(bench.tested)) {
    for (const Case& c : cases) {
      forward_and_backward(bench, dtype, c);
      if (c.dropout == 0.0f) cached(bench, dtype, c);
    }
  }
}

}  // namespace quire::verify
