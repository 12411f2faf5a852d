#include "engine/formats/packed_weights.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <utility>

#include "base/error.h"
#include "base/parallel.h"
#include "engine/formats/quantised.h"
#include "engine/model/elements.h"
#include "kernels/quantised.h"

namespace quire {
namespace {

/// GGUF's name of a format with blocks.
const char* type_of(WeightFormat format) {
  return format == WeightFormat::q8_0 ? "Q8_0" : "Q4_0";
}

/// Rows of N that are packed together: whole panels. Of a matrix that lies as [K, N] in float, 256
/// bytes of a row of the file.
constexpr std::int64_t kRows = 64;
/// Elements of K of those rows that are floats at once, 64 kB: whole blocks.
constexpr std::int64_t kDepth = 256;

/// Rows [first, first + rows) of one matrix [N, K].
class PanelPiece {
 public:
  PanelPiece(const ToPack& work, std::int64_t first)
      : work_(work),
        from_(*work.from),
        type_(*element_type(type_of(work.format))),
        N_(out_in_shape(*work.parameter)[0]),
        K_(out_in_shape(*work.parameter)[1]),
        first_(first),
        rows_(std::min(kRows, N_ - first)) {}

  void pack() {
    const bool by_rows = from_.transposed == is_conv1d(*work_.parameter);  // lies as [N, K]
    pack_from(by_rows);
    // Pieces come in order, so what lies before the last ones is done with, or is read anew.
    constexpr std::int64_t kTogether = 32 * kRows;
    const std::int64_t end = first_ + rows_;
    if (from_.file == nullptr || (end < N_ && (!by_rows || end % kTogether != 0))) return;
    const auto bytes_before = [&](std::int64_t row) {
      return from_.bytes.size() / static_cast<std::size_t>(N_) * static_cast<std::size_t>(row);
    };
    const std::size_t begin = by_rows ? bytes_before((end - 1) / kTogether * kTogether) : 0;
    const std::string_view text = {reinterpret_cast<const char*>(from_.bytes.data()),
                                   from_.bytes.size()};
    from_.file->let_go(text.substr(begin, bytes_before(end) - begin));
  }

 private:
  void pack_from(bool by_rows) {
    const auto row_bytes = static_cast<std::size_t>(K_ / type_.block_elements * type_.block_bytes);
    if (by_rows && from_.type == &type_) {
      const std::byte* const blocks = from_.at(first_ * K_);
      check_scales(blocks, row_bytes);
      return pack_blocks(blocks);
    }
    std::vector<std::byte> blocks(static_cast<std::size_t>(rows_) * row_bytes);
    std::vector<float> values;  // [rows, depth]
    for (std::int64_t k = 0; k < K_; k += kDepth) {
      const std::int64_t depth = std::min(kDepth, K_ - k);
      values.resize(static_cast<std::size_t>(rows_ * depth));
      if (by_rows) {
        read_rows(k, depth, values.data());
      } else {
        read_columns(k, depth, values.data());
      }
      for (std::int64_t r = 0; r < rows_; ++r) {
        const std::span<const float> row(values.data() + r * depth,
                                         static_cast<std::size_t>(depth));
        std::byte* const to = blocks.data() + static_cast<std::size_t>(r) * row_bytes +
                              k / type_.block_elements * type_.block_bytes;
        if (const auto large = round(row, to)) {
          refuse_large(first_ + r, k + static_cast<std::int64_t>(*large), row[*large]);
        }
      }
    }
    pack_blocks(blocks.data());
  }

  void pack_blocks(const std::byte* blocks) {
    pack_rows(work_.format, {.N = N_, .K = K_, .first = first_, .count = rows_}, blocks,
              static_cast<std::byte*>(work_.to));
  }

  std::optional<std::size_t> round(std::span<const float> row, std::byte* to) const {
    if (work_.format == WeightFormat::q4_0) return quantise_q4_0_closely(row, to);
    return quantise(type_.name, row, to);
  }

  /// A block's integers are finite; its scale need not be.
  void check_scales(const std::byte* blocks, std::size_t row_bytes) {
    const auto size = static_cast<std::size_t>(type_.block_bytes);
    for (std::size_t at = 0; at < static_cast<std::size_t>(rows_) * row_bytes; at += size) {
      Half scale;
      std::memcpy(&scale, blocks + at, sizeof scale);
      if ((scale.bits & 0x7c00) == 0x7c00) {
        const auto in_row = static_cast<std::int64_t>(at % row_bytes / size);
        refuse(first_ + static_cast<std::int64_t>(at / row_bytes), in_row * type_.block_elements,
               "holds " + std::to_string(to_float(scale)) + " as the scale of a block");
      }
    }
  }

  /// Elements `at` and on where they lie, which must be finite.
  void read(std::int64_t at, std::span<float> to) {
    from_.check_finite(at, std::ssize(to));
    from_.read_as_it_lies(at, to);
  }

  void read_rows(std::int64_t k, std::int64_t depth, float* to) {
    for (std::int64_t r = 0; r < rows_; ++r) {
      read((first_ + r) * K_ + k, {to + r * depth, static_cast<std::size_t>(depth)});
    }
  }

  /// Of [K, N]: lines of the file, of which each has an element of every row.
  void read_columns(std::int64_t k, std::int64_t depth, float* to) {
    constexpr std::int64_t kLines = 32;
    float lines[kLines * kRows];
    for (std::int64_t i = 0; i < depth; i += kLines) {
      const std::int64_t count = std::min(kLines, depth - i);
      for (std::int64_t line = 0; line < count; ++line) {
        read((k + i + line) * N_ + first_, {lines + line * rows_, static_cast<std::size_t>(rows_)});
      }
      for (std::int64_t r = 0; r < rows_; ++r) {
        for (std::int64_t line = 0; line < count; ++line) {
          to[r * depth + i + line] = lines[line * rows_ + r];
        }
      }
    }
  }

  /// Of element [n, k], in the order of the file's shape.
  [[noreturn]] void refuse(std::int64_t n, std::int64_t k, const std::string& what) const {
    if (is_conv1d(*work_.parameter)) std::swap(n, k);
    throw Error(Fault::bad_data, fmt::format("{} {} at [{}, {}]", from_.where(), what, n, k),
                {"the file is damaged, or its training diverged"});
  }
  [[noreturn]] void refuse_large(std::int64_t n, std::int64_t k, float value) const {
    if (is_conv1d(*work_.parameter)) std::swap(n, k);
    throw Error(Fault::bad_data,
                fmt::format("{} cannot be stored as {}", from_.where(), type_.name),
                {fmt::format("element [{}, {}] is {:f}; a block of that type multiplies its "
                             "integers with a float16",
                             n, k, value)},
                "`dtype` auto"_named);
  }

  const ToPack& work_;
  const FileTensor& from_;
  const ElementType& type_;  // of the blocks
  std::int64_t N_, K_, first_, rows_;
};

/// Bytes of a parameter in blocks, or as elements of `rest`.
std::size_t bytes_in(Quantisation quantisation, const NamedParameter& parameter, DType rest) {
  if (const auto format = format_in(quantisation, parameter)) {
    const Shape shape = out_in_shape(parameter);
    return whole_lines(packed_bytes(*format, shape[0], shape[1]));
  }
  return whole_lines(static_cast<std::size_t>(parameter.shape.count()) * size_of(rest));
}

}  // namespace

const char* name_of(Quantisation quantisation) {
  return quantisation == Quantisation::int8 ? "int8" : "int4";
}

std::size_t whole_lines(std::size_t bytes) {
  return static_cast<std::size_t>(round_up(static_cast<std::int64_t>(bytes), 64));
}

bool is_conv1d(const NamedParameter& parameter) {
  return parameter.is_matrix && parameter.name.find(".h.") != std::string::npos;
}

bool multiplies(const NamedParameter& parameter) {
  return parameter.is_matrix && !parameter.name.ends_with("wpe.weight");
}

Shape out_in_shape(const NamedParameter& parameter) {
  const Shape& shape = parameter.shape;
  return is_conv1d(parameter) ? Shape{shape[1], shape[0]} : shape;
}

std::optional<WeightFormat> format_in(Quantisation quantisation, const NamedParameter& parameter) {
  if (!multiplies(parameter)) return {};
  const WeightFormat format = quantisation == Quantisation::int4 && is_conv1d(parameter)
                                  ? WeightFormat::q4_0
                                  : WeightFormat::q8_0;
  if (out_in_shape(parameter)[1] % entry_of(format).block_elements != 0) return {};
  return format;
}

std::optional<WeightFormat> format_of_blocks(const FileTensor& tensor) {
  for (const WeightFormat format : {WeightFormat::q8_0, WeightFormat::q4_0}) {
    if (tensor.dtype_name() == type_of(format)) return format;
  }
  return {};
}

std::size_t quantised_bytes(const Gpt2Config& config, Quantisation quantisation, DType rest) {
  std::size_t bytes = 0;
  for (const NamedParameter& parameter : parameter_list(config)) {
    bytes += bytes_in(quantisation, parameter, parameter.is_matrix ? rest : DType::f32);
  }
  return bytes;
}

void pack_weights(const std::vector<ToPack>& all) {
  std::vector<std::pair<const ToPack*, std::int64_t>> pieces;
  for (const ToPack& work : all) {
    const std::int64_t N = out_in_shape(*work.parameter)[0];
    for (std::int64_t first = 0; first < N; first += kRows) pieces.emplace_back(&work, first);
  }
  parallel_for(0, pieces.size(),
               [&](std::size_t i) { PanelPiece(*pieces[i].first, pieces[i].second).pack(); });
}

Parameters quantised(Device& device, const Gpt2Config& config, const Parameters& parameters,
                     Quantisation quantisation) {
  check_quantised(device, config, quantisation);
  const std::vector<NamedParameter>& list = parameters.names();
  const std::vector<ConstView>& plain = parameters.weights();
  std::size_t size = 0;
  for (std::size_t i = 0; i < list.size(); ++i) {
    size += bytes_in(quantisation, list[i], plain[i].dtype());
  }
  const auto buffer = std::make_shared<Buffer>(device, size);
  std::vector<ConstView> weights;
  std::vector<Weight> blocks(list.size());
  std::vector<FileTensor> sources(list.size());
  std::vector<ToPack> to_pack;
  auto* next = static_cast<std::byte*>(buffer->data());
  for (std::size_t i = 0; i < list.size(); ++i) {
    if (const auto format = format_in(quantisation, list[i])) {
      sources[i] = FileTensor::of(list[i].name, plain[i]);
      to_pack.push_back({&list[i], &sources[i], *format, next});
      blocks[i] = {next, *format, WeightLayout::out_in, out_in_shape(list[i])};
      weights.emplace_back();
    } else {
      weights.emplace_back(next, plain[i].dtype(), list[i].shape);
      device.copy(next, plain[i].bytes(), plain[i].size_bytes());
    }
    next += bytes_in(quantisation, list[i], plain[i].dtype());
  }
  device.synchronize();
  pack_weights(to_pack);
  return {config, std::move(weights), blocks, buffer};
}

void check_quantised(const Device& device, const Gpt2Config& config, Quantisation quantisation) {
  const std::vector<NamedParameter> list = parameter_list(config);
  bool any = false;
  for (const NamedParameter& parameter : list) {
    const auto format = format_in(quantisation, parameter);
    any = any || format;
    const std::string reason = format ? device.why_no_format(*format) : "";
    if (reason.empty()) continue;
    throw Error(
        Fault::device,
        fmt::format("this device does not compute with weights in {}", name_of(quantisation)),
        {device.description(), reason}, "`device` cpu, or `dtype` auto"_named);
  }
  if (any) return;
  throw Error(
      Fault::bad_data,
      fmt::format("no matrix of the model can be stored in {}", name_of(quantisation)),
      {fmt::format("n_embd is {} and n_inner {}: blocks of {} elements do not fill a row",
                   config.n_embd, config.inner(), entry_of(WeightFormat::q8_0).block_elements)},
      "`dtype` auto"_named);
}

std::string note_of_unfit(const Gpt2Config& config, Quantisation quantisation) {
  std::size_t unfit = 0, all = 0;
  std::string first;
  for (const NamedParameter& parameter : parameter_list(config)) {
    if (!multiplies(parameter)) continue;
    ++all;
    if (format_in(quantisation, parameter)) continue;
    if (unfit++ == 0) {
      first = fmt::format("'{}', whose rows have {}", parameter.name, out_in_shape(parameter)[1]);
    }
  }
  if (unfit == 0) return "";
  return fmt::format("{} of {} matrices are not {}, blocks of {}, but stay as they are: {}", unfit,
                     all, name_of(quantisation), entry_of(WeightFormat::q8_0).block_elements,
                     first);
}

}  // namespace quire
