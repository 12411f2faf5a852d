// What rounding to 8 and 4 bits does to models that write text: their perplexity, of texts of the kind
// that they learned and of others, and where a few channels of the residual stream are hundreds of
// times the rest, as in models that were trained for long.
#include <algorithm>
#include <cmath>

#include "base/file.h"
#include "corpus/records.h"
#include "engine/formats/adapter_folder.h"
#include "engine/formats/hub_folder.h"
#include "engine/model/elements.h"
#include "engine/model/gpt2.h"
#include "kernels/open_device.h"
#include "pipeline/demo.h"
#include "pipeline/model_path.h"
#include "pipeline/model_tokenizer.h"
#include "pipeline/scoring.h"
#include "tests/support/catch.h"
#include "tests/support/fixtures.h"
#include "tests/support/scratch.h"

using namespace quire;
using namespace quire::test;
namespace fs = std::filesystem;

namespace {

double perplexity_of(const std::string& model, const std::string& tokenizer, WeightStorage storage,
                     const std::vector<Record>& records) {
  ScoringOptions options{.model = model, .tokenizer = tokenizer, .storage = storage};
  options.perplexity.batch = 8;
  const Scored scored = score(options, records,
                              {.open_device = [] { return open_device("cpu"); },
                               .note = [](const std::string&) {},
                               .on_begin = [] {},
                               .stop_requested = [] { return false; }},
                              [](const Scored&) {});
  return scored.result.perplexity();
}

/// int8 within half a percent of float32, int4 within four. Less, too: rounding that makes a model
/// better is as far from what it was.
void check_rounding(const std::string& model, const std::string& tokenizer,
                    const std::vector<Record>& records) {
  const double exact = perplexity_of(model, tokenizer, WeightStorage::f32, records);
  for (const auto& [name, storage, percent] : {std::tuple("int8", WeightStorage::int8, 0.5),
                                               std::tuple("int4", WeightStorage::int4, 4.0)}) {
    const double rounded = perplexity_of(model, tokenizer, storage, records);
    const double change = 100 * (rounded / exact - 1);
    INFO(model << " in " << name << ": perplexity " << rounded << ", in float32 " << exact << ", "
               << change << " %");
    CHECK(std::abs(change) <= percent);
    CHECK(rounded != exact);  // it was rounded
  }
}

std::vector<Record> quotes() {
  CorpusOptions options;
  options.paths = {find_quotes().string()};
  options.text_column = "quote";
  return read_records(options);
}

std::vector<Record> beginning_of(const fs::path& file, std::size_t bytes) {
  std::string text = read_file(file);
  text.resize(std::min(text.size(), bytes));
  std::vector<Record> records(1);
  records[0].text = std::move(text);
  return records;
}

/// How much a layernorm's input spreads over its channels, on average over tokens.
double spread(const std::vector<float>& states, std::size_t channels) {
  double sum = 0;
  for (std::size_t first = 0; first < states.size(); first += channels) {
    double mean = 0, square = 0;
    for (std::size_t c = 0; c < channels; ++c) mean += states[first + c];
    mean /= static_cast<double>(channels);
    for (std::size_t c = 0; c < channels; ++c) square += std::pow(states[first + c] - mean, 2);
    sum += std::sqrt(square / static_cast<double>(channels));
  }
  return sum / static_cast<double>(states.size() / channels);
}

/// A model in whose middle blocks four channels of the residual stream are `times` as large as the
/// rest: two of one sign and two of the other, so that the mean stays. As in trained models, the MLP
/// of an early block adds them, by its bias, and that of a later one takes them off again. The
/// layernorms between divide by what these channels are, so their weights grow by as much as that is
/// more than the spread was, on average over `ids` (the spread of a single token no longer counts,
/// which is what the model loses, besides what the channels say to these blocks). In two of the
/// channels they shrink by `times` as well: what c_attn and c_fc make of them, for every token alike,
/// is taken out of their biases. The other two reach the products `times` as large as the rest, where
/// rows of zeros read them.
class Planted {
 public:
  Planted(Device& device, const LoadedModel& model, double times,
          const std::vector<std::int32_t>& ids)
      : device_(device), config_(model.config), p_(model.parameters), times_(times) {
    Gpt2 gpt2(device, config_, p_);
    HiddenStates hidden;
    gpt2.logits({.batch = 1, .length = static_cast<int>(ids.size()), .ids = ids}, &hidden);
    const auto at = [&](int block) {  // the spread of what block `block` is given
      return spread(hidden.states[static_cast<std::size_t>(block)],
                    static_cast<std::size_t>(config_.n_embd));
    };
    const int first = 2, end = 5;
    size_ = times * at(first);
    for (int l = first; l < end; ++l) {
      widen(l, Role::ln_1, Role::c_attn, at(l));
      widen(l, Role::ln_2, Role::c_fc, std::sqrt(at(l) * at(l + 1)));
    }
    for (const auto& [block, value] : {std::pair(first - 1, size_), {end - 1, -size_}}) {
      change(module_name(block, Role::mlp_proj) + ".bias", [&](float* bias) {
        for (std::size_t i = 0; i < 4; ++i) {
          bias[kChannels[i]] += static_cast<float>(sign(i) * value);
        }
      });
    }
  }

 private:
  static constexpr std::int64_t kChannels[] = {5, 70, 133, 250};
  static double sign(std::size_t i) { return i % 2 == 0 ? 1 : -1; }

  template <class Change>
  void change(const std::string& name, const Change& work) {
    const View tensor = p_.tensors()[p_.index_of(name)];
    std::vector<float> values = download(device_, tensor);
    work(values.data());
    upload(device_, values, tensor);
  }
  double now(double before) const {
    return std::sqrt(before * before + 4 * size_ * size_ / config_.n_embd);
  }
  double factor(double before) const { return now(before) / before; }
  void scale(float* vector, double by) const {
    for (int c = 0; c < config_.n_embd; ++c) vector[c] = static_cast<float>(vector[c] * by);
  }
  void widen(int layer, Role norm, Role reader, double before) {
    std::vector<double> constant(4);
    change(module_name(layer, norm) + ".weight", [&](float* w) {
      scale(w, factor(before));
      for (std::size_t i = 0; i < 2; ++i) {
        float& own = w[kChannels[i]];
        own = static_cast<float>(own / times_);
        constant[i] = sign(i) * size_ / now(before) * own;
      }
    });
    const std::int64_t N = weight_shape(config_, reader)[1];
    std::vector<double> added(static_cast<std::size_t>(N));
    change(module_name(layer, reader) + ".weight", [&](float* w) {
      for (std::size_t i = 0; i < 4; ++i) {
        float* const row = w + kChannels[i] * N;
        if (i >= 2) std::fill_n(row, N, 0.0f);
        for (std::int64_t n = 0; n < N; ++n) {
          added[static_cast<std::size_t>(n)] += constant[i] * row[n];
        }
      }
    });
    change(module_name(layer, reader) + ".bias", [&](float* b) {
      for (std::int64_t n = 0; n < N; ++n) {
        b[n] -= static_cast<float>(added[static_cast<std::size_t>(n)]);
      }
    });
  }

  Device& device_;
  Gpt2Config config_;
  const Parameters& p_;
  double times_, size_ = 0;
};

/// A folder with the bundled model, its channels planted.
fs::path planted_narrator(const ScratchFolder& folder, double times) {
  const auto device = open_device("cpu");
  const LoadedModel model = load_resolved(*device, resolve_model("narrator"), WeightStorage::f32);
  std::string text;
  for (const Record& record : quotes()) text += record.text + "\n";
  std::vector<std::int32_t> ids = tokenizer_of(resolve_model("narrator")).encode(text);
  ids.resize(512);
  const Planted planted(*device, model, times, ids);
  save_model(*device, folder / "planted", model.config, model.parameters, DType::f32);
  return folder / "planted";
}

}  // namespace

TEST_CASE("slow: in 8 and 4 bits the bundled model scores its kind of text as in float32") {
  check_rounding("narrator", "", quotes());
}

TEST_CASE("slow: in 8 and 4 bits a model with channels 300 times the rest scores as in float32") {
  const ScratchFolder folder;
  const std::string planted = planted_narrator(folder, 300).string();
  const std::vector<Record> records = quotes();
  const double before = perplexity_of("narrator", "", WeightStorage::f32, records);
  const double after = perplexity_of(planted, "narrator", WeightStorage::f32, records);
  INFO("perplexity " << before << " without, " << after << " with such channels");
  CHECK(after < 1.5 * before);  // it is a model still: one that knows nothing has 8,192
  check_rounding(planted, "narrator", records);
}

TEST_CASE("slow: in 8 and 4 bits a trained model of two blocks a row scores as in float32") {
  QUIRE_FIXTURE(models, "models");
  const fs::path text = fixtures_root() / "metrics/ppl_text.txt";
  check_rounding((models / "tiny-char").string(), "", beginning_of(text, 12000));
}

TEST_CASE("an adapter is added to the model before that is rounded") {
  const ScratchFolder folder;
  const auto device = open_device("cpu");
  Gpt2Config config;
  config.vocab_size = 61;
  config.n_positions = 16;
  config.n_embd = 64;
  config.n_layer = 2;
  config.n_head = 4;
  config.initializer_range = 0.3f;
  save_model(*device, folder / "base", config, initialize_parameters(*device, config, 5),
             DType::bf16);
  LoraConfig lora;
  lora.r = 4;
  const LoraAdapter adapter = initialize_adapter(*device, config, lora, 1);
  for (const View& tensor : adapter.tensors()) {  // B begins as zeros
    std::vector<float> values = download(*device, tensor);
    for (std::size_t i = 0; i < values.size(); ++i) {
      values[i] += 0.1f * static_cast<float>(i % 7) - 0.3f;
    }
    upload(*device, values, tensor);
  }
  save_adapter(*device, folder / "adapter", adapter, (folder / "base").string());
  const std::vector<std::int32_t> ids = {3, 1, 4, 15, 9, 26, 53, 58};
  const auto logits_of = [&](const Parameters& parameters) {
    Gpt2 gpt2(*device, config, parameters);
    return gpt2.logits({.batch = 1, .length = 8, .ids = ids});
  };
  const LoadedModel merged = load_resolved(*device, folder / "adapter", WeightStorage::as_stored);
  for (const WeightStorage storage : {WeightStorage::int8, WeightStorage::int4}) {
    const LoadedModel rounded = load_resolved(*device, folder / "adapter", storage);
    CHECK(rounded.parameters.in_blocks());
    CHECK((logits_of(rounded.parameters) ==
           logits_of(quantised(*device, config, merged.parameters, *quantisation_of(storage)))));
    CHECK((logits_of(rounded.parameters) !=
           logits_of(load_model(*device, folder / "base", storage).parameters)));
  }
}

/// Minutes: run as "pipeline: perplexity in 8 and 4 bits, of WikiText-2" (tests/CMakeLists.txt).
TEST_CASE("WikiText-2 in 8 and 4 bits, with and without large channels", "[.wikitext]") {
  QUIRE_FIXTURE(text, "data/wikitext-2/test.txt");
  check_rounding("narrator", "", beginning_of(text, 100'000));
  const ScratchFolder folder;
  const std::vector<Record> records = beginning_of(text, 30'000);
  for (const double times : {100.0, 1000.0}) {
    INFO(times << " times");
    check_rounding(planted_narrator(folder, times).string(), "narrator", records);
  }
}
