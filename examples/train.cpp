// A model from a text file or a folder of them, with the installed library:
//   train TEXT OUTPUT_DIR [MODEL]
// On from the folder MODEL, or a small one from scratch. `generate OUTPUT_DIR` writes with it.
#include <quire/quire.h>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <string>

using namespace quire;

namespace {

/// A tenth of a million parameters and the rows of the vocabulary.
LoadedModel fresh_model(Device& device, const Tokenizer& tokenizer, std::uint64_t seed) {
  Gpt2Config config;
  config.n_layer = 2;
  config.n_head = 4;
  config.n_embd = 64;
  config.n_positions = 64;
  config.vocab_size = tokenizer.vocab_size();
  config.bos_token_id = config.eos_token_id = tokenizer.end_of_text().value();
  return {.config = config, .parameters = initialize_parameters(device, config, seed), .notes = {}};
}

void run(const std::string& text, const std::filesystem::path& output_dir,
         const std::filesystem::path& base) {
  TrainingConfig options;  // names and defaults are TrainingArguments'
  options.output_dir = output_dir;
  options.overwrite_output_dir = true;
  options.max_steps = 60;
  options.learning_rate = base.empty() ? 3e-3f : 5e-4f;
  options.block_size = 64;
  options.save_steps = 0;  // the final model alone

  // 1. The model and its vocabulary.
  const auto device = open_device("auto");
  const Tokenizer tokenizer =
      base.empty() ? train_bpe(find_files({text}), {.vocab_size = 1000}) : Tokenizer::load(base);
  const LoadedModel model = base.empty() ? fresh_model(*device, tokenizer, options.seed)
                                         : load_model(*device, base, WeightStorage::f32);

  // 2. Every line is a record that ends with <|endoftext|>; a tenth of them is held out.
  CorpusOptions data;
  data.paths = {text};
  data.line_by_line = true;
  const auto tokens = std::make_shared<TokenStore>(tokenizer.vocab_size());
  tokenize(read_records(data), tokenizer, /*threads=*/0,
           [&](const TokenRecords& part) { tokens->add(part); });
  const TrainData parts = split(view_of(tokens), 0.1, options.seed);

  // 3. The loop, which saves weights and configs; the tokenizer goes beside them.
  TrainingCallbacks callbacks;
  callbacks.on_log = [](const TrainingProgress& now) {
    std::printf("step %lld of %lld, loss %.3f\n", static_cast<long long>(now.step),
                static_cast<long long>(now.total_steps), now.loss);
  };
  callbacks.write_companions = [&](const std::filesystem::path& folder) {
    tokenizer.save(folder, model.config.n_positions);
  };
  const TrainingResult result = train(*device, model.config, model.parameters, parts.train,
                                      parts.validation, options, callbacks);
  std::printf("loss on what was held out: %.3f before, %.3f after\n", result.first_eval_loss,
              result.final_eval_loss);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) return std::puts("usage: train TEXT OUTPUT_DIR [MODEL]"), 2;
  try {
    run(argv[1], argv[2], argc > 3 ? argv[3] : "");
  } catch (const Error& error) {
    return std::fprintf(stderr, "%s\n", error.message().c_str()), static_cast<int>(error.fault());
  }
}
