// The model against what transformers computes in float64: hidden states, logits, loss, gradients,
// padded batches, and AdamW steps.
#include <cmath>
#include <functional>
#include <map>

#include "tests/engine/model/model_case.h"

using namespace quire;
using namespace quire::test;

namespace {

/// Runs `check` for every model of the set on every device.
void on_all(const std::vector<std::string>& models,
            ModelCase (*open)(const std::string&, const std::string&, int),
            const std::function<void(ModelCase&)>& check,
            const std::vector<std::string>& devices = kDevices) {
  for (const std::string& device : devices) {
    for (const std::string& model : models) {
      INFO(model << " on " << device);
      ModelCase c = open(model, device, 0);
      check(c);
    }
  }
}

void check_forward(ModelCase& c) {
  const Safetensors file(c.folder / "forward.safetensors");
  const ForwardBatch batch(file);
  const Gpt2Config& config = c.model.config;
  const auto want = [&](const std::string& name) { return read_tensor<float>(file, name); };

  Gpt2 gpt2(*c.device, config, c.model.parameters);
  HiddenStates hidden;
  const std::vector<float> logits = gpt2.logits(batch.view(), &hidden);

  REQUIRE(hidden.states.size() == static_cast<std::size_t>(config.n_layer) + 2);
  const std::vector<float> embed = want("hidden.embed");
  check_close("embed", hidden.states[0], embed, kEps * largest_magnitude(embed));
  double block_bound = 0;
  std::vector<float> block;
  for (int l = 0; l < config.n_layer; ++l) {
    block = want("hidden.block." + std::to_string(l));
    block_bound =
        bound_of(c.tolerance["hidden"][static_cast<std::size_t>(l)], largest_magnitude(block));
    check_close("block " + std::to_string(l), hidden.states[static_cast<std::size_t>(l) + 1], block,
                block_bound);
  }
  // The final layernorm multiplies an error of its input by at most 2·rstd·|weight|, where the 2
  // counts what reaches an element through mean and variance.
  const std::size_t C = static_cast<std::size_t>(config.n_embd);
  double largest_rstd = 0;
  for (std::size_t n = 0; n < block.size() / C; ++n) {
    double mean = 0, variance = 0;
    for (std::size_t i = 0; i < C; ++i) mean += block[n * C + i] / static_cast<double>(C);
    for (std::size_t i = 0; i < C; ++i) {
      variance += std::pow(block[n * C + i] - mean, 2) / static_cast<double>(C);
    }
    largest_rstd = std::max(largest_rstd, 1 / std::sqrt(variance + config.layer_norm_epsilon));
  }
  const double weight = largest_magnitude(to_host(*c.device, c.model.parameters.ln_f().weight));
  const std::vector<float> final_ln = want("hidden.final_ln");
  check_close("final layernorm", hidden.states.back(), final_ln,
              2 * largest_rstd * weight * block_bound + 8 * kEps * largest_magnitude(final_ln));

  check_close("logits", logits, want("logits"),
              bound_of(c.tolerance["logits"], c.tolerance["max_abs_logit"]));

  const std::vector<float> losses = gpt2.token_losses(batch.view());
  double sum = 0;
  for (std::size_t i = 0; i < losses.size(); ++i) {
    if (batch.targets[i] == kIgnoredTarget) CHECK(losses[i] == 0.0f);
    sum += losses[i];
  }
  const double loss = want("loss")[0];
  CHECK(std::abs(sum / static_cast<double>(count_targets(batch.targets)) - loss) <=
        bound_of(c.tolerance["loss"], loss));
}

void check_gradients(ModelCase& c) {
  const ForwardBatch batch(Safetensors(c.folder / "forward.safetensors"));
  const Safetensors file(c.folder / "grads.safetensors");
  Gpt2Training training(*c.device, c.model.config, c.model.parameters,
                        {.batch = batch.batch, .length = batch.length, .dropout = false});
  const float scale = 1.0f / static_cast<float>(count_targets(batch.targets));
  const double with_gradients = training.forward_backward(batch.view(), scale, 0);
  CHECK(training.forward(batch.view()) == with_gradients);
  for (const NamedParameter& named : training.gradients().names()) {
    const nlohmann::json tolerance = c.tolerance["grads"][named.name];
    check_close(named.name, to_host(*c.device, training.gradients().find(named.name)),
                read_tensor<float>(file, named.name), bound_of(tolerance[0], tolerance[1]));
  }
}

void check_padding(ModelCase& c) {
  const Safetensors file(c.folder / "padding.safetensors");
  const int B = static_cast<int>(file.find("left.ids")->shape[0]);
  const int T = static_cast<int>(file.find("left.ids")->shape[1]);
  const std::size_t V = static_cast<std::size_t>(c.model.config.vocab_size);
  const double bound = bound_of(c.tolerance["logits"], c.tolerance["max_abs_logit"]);
  Gpt2 gpt2(*c.device, c.model.config, c.model.parameters);

  for (const std::string side : {"left", "right"}) {
    const auto ids = read_tensor<std::int32_t>(file, side + ".ids");
    const auto mask = read_tensor<std::int32_t>(file, side + ".mask");
    const auto positions = read_tensor<std::int32_t>(file, side + ".positions");
    std::vector<std::int32_t> first_key;  // padding on the right is behind every query that counts
    for (int b = 0; side == "left" && b < B; ++b) {
      std::int32_t pads = 0;
      while (mask[static_cast<std::size_t>(b * T + pads)] == 0) ++pads;
      first_key.insert(first_key.end(), static_cast<std::size_t>(T), pads);
    }
    const auto is_token = [&](std::size_t i) { return mask[i / V] != 0; };
    const auto logits = gpt2.logits(
        {.batch = B, .length = T, .ids = ids, .positions = positions, .first_key = first_key});
    check_close_where(side + " logits", logits, read_tensor<float>(file, side + ".logits"), bound,
                      is_token);
    if (file.find(side + ".logits_default_positions") != nullptr) {
      const auto counted =
          gpt2.logits({.batch = B, .length = T, .ids = ids, .first_key = first_key});
      check_close_where(side + " logits, positions not told of the padding", counted,
                        read_tensor<float>(file, side + ".logits_default_positions"), bound,
                        is_token);
    }
  }
}

/// What Adam does to an element whose gradient is next to nothing is lr·m/(sqrt(v) + eps): noise in
/// the gradient, divided by noise. Which element of which tensor meets that is chance, so a step's
/// parameters are held to the largest error of any tensor of that step; the key third of
/// c_attn.bias, whose gradient is nothing but noise, is left out.
double parameter_bound(const nlohmann::json& tolerances, double largest) {
  double error = 0;
  for (const auto& [name, value] : tolerances.items()) {
    if (name.find("c_attn.bias") == std::string::npos) error = std::max(error, value.get<double>());
  }
  return bound_of(error, largest);
}

void check_parameters(ModelCase& c, const Safetensors& file, int step) {
  const std::string prefix = "step" + std::to_string(step);
  const nlohmann::json tolerances = c.tolerance["params"][std::to_string(step)];
  const std::size_t C = static_cast<std::size_t>(c.model.config.n_embd);
  for (const NamedParameter& named : c.model.parameters.names()) {
    const std::vector<float> full = to_host(*c.device, c.model.parameters.find(named.name));
    const bool sampled = file.find(prefix + ".full." + named.name) == nullptr;
    const std::vector<float> want =
        read_tensor<float>(file, prefix + (sampled ? ".sample." : ".full.") + named.name);
    // want has ceil(size/stride) elements, and the stride is odd: it follows from the two sizes.
    std::size_t stride = 1;
    while (sampled && (full.size() + stride - 1) / stride != want.size()) stride += 2;
    std::vector<float> got;
    for (std::size_t i = 0; i < full.size(); i += stride) got.push_back(full[i]);

    const bool has_keys = named.name.find("c_attn.bias") != std::string::npos;
    check_close_where(
        prefix + " " + named.name, got, want, parameter_bound(tolerances, largest_magnitude(want)),
        [&](std::size_t i) { return !has_keys || i * stride < C || i * stride >= 2 * C; });
  }
}

void check_training(ModelCase& c) {
  const ForwardBatch batch(Safetensors(c.folder / "forward.safetensors"));
  const Safetensors steps(c.folder / "steps.safetensors");
  const nlohmann::json run = c.json("train.json");
  const Parameters& parameters = c.model.parameters;
  Gpt2Training training(*c.device, c.model.config, parameters,
                        {.batch = batch.batch, .length = batch.length, .dropout = false});
  const Parameters m(*c.device, c.model.config), v(*c.device, c.model.config);
  m.fill_zero(*c.device);
  v.fill_zero(*c.device);
  std::vector<AdamwTensor> tensors;
  std::vector<ConstView> gradients;
  for (std::size_t i = 0; i < parameters.tensors().size(); ++i) {
    const float decay = parameters.names()[i].decays ? run["weight_decay"].get<float>() : 0.0f;
    tensors.push_back({.param = parameters.tensors()[i],
                       .grad = training.gradients().tensors()[i],
                       .m = m.tensors()[i],
                       .v = v.tensors()[i],
                       .weight_decay = decay});
    gradients.emplace_back(training.gradients().tensors()[i]);
  }
  const double valid = static_cast<double>(count_targets(batch.targets));
  const std::size_t count = run["loss_before_step"].size();
  for (std::size_t i = 0; i < count; ++i) {
    INFO("step " << i + 1);
    training.zero_gradients();
    const double loss =
        training.forward_backward(batch.view(), static_cast<float>(1 / valid), 0) / valid;
    const double norm = std::sqrt(c.device->squared_norm(gradients));
    const double want_loss = run["loss_before_step"][i];
    const double want_norm = run["grad_norm_before_clip"][i];
    CHECK(std::abs(loss - want_loss) <= bound_of(c.tolerance["loss_per_step"], want_loss));
    CHECK(std::abs(norm - want_norm) <= bound_of(c.tolerance["grad_norm_per_step"], want_norm));
    c.device->adamw({.tensors = tensors,
                     .lr = run["lr"],
                     .beta1 = run["betas"][0],
                     .beta2 = run["betas"][1],
                     .eps = run["eps"],
                     .step = static_cast<std::int64_t>(i) + 1,
                     .grad_scale = static_cast<float>(
                         std::min(1.0, run["clip_norm"].get<double>() / (norm + 1e-6)))});
    if (c.tolerance["params"].contains(std::to_string(i + 1))) {
      check_parameters(c, steps, static_cast<int>(i) + 1);
    }
  }
}

}  // namespace

TEST_CASE("small set: hidden states, logits and loss agree with transformers") {
  on_all(kSmallModels, small_case, check_forward);
}
TEST_CASE("small set: every gradient agrees with transformers") {
  on_all(kSmallModels, small_case, check_gradients);
}
TEST_CASE("small set: padded rows have the logits that transformers gives them") {
  on_all(kSmallModels, small_case, check_padding);
}
TEST_CASE("small set: AdamW steps agree with torch") {
  on_all(kSmallModels, small_case, check_training);
}

TEST_CASE("fixtures: hidden states, logits and loss agree with transformers") {
  QUIRE_FIXTURE(path, "fixtures");
  on_all(kFixtureModels, fixture_case, check_forward);
}
TEST_CASE("fixtures: every gradient agrees with transformers") {
  QUIRE_FIXTURE(path, "fixtures");
  on_all(kFixtureModels, fixture_case, check_gradients);
}
TEST_CASE("fixtures: padded rows have the logits that transformers gives them") {
  QUIRE_FIXTURE(path, "fixtures");
  on_all(kFixtureModels, fixture_case, check_padding);
}
TEST_CASE("fixtures: twenty AdamW steps agree with torch") {
  QUIRE_FIXTURE(path, "fixtures");
  on_all(kFixtureModels, fixture_case, check_training, {"reference", "cpu"});
  // Five seconds a model where the kernels run on fibers, in which the small set trains too.
  on_all({kFixtureModels.front()}, fixture_case, check_training, {kDevices.back()});
}
