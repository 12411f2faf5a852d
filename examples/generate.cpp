// Text from a model folder, with the installed library: generate FOLDER [PROMPT]
#include <quire/engine/formats/hub_folder.h>
#include <quire/engine/generation/generator.h>
#include <quire/kernels/open_device.h>
#include <quire/tokenizer/tokenizer.h>
#include <cstdio>

int main(int argc, char** argv) {
  using namespace quire;
  if (argc < 2) return std::puts("usage: generate FOLDER [PROMPT]"), 2;
  try {
    const auto device = open_device("auto");
    const LoadedModel model = load_model(*device, argv[1], WeightStorage::as_stored);

    // What the folder says, the ids that end a text among it.
    GenerationConfig options = read_generation_config(argv[1], model.config);
    options.max_new_tokens = 40;
    options.do_sample = true;
    options.seed = 7;

    if (!Tokenizer::exists(argv[1])) {  // ids in, ids out
      const auto rows = generate(*device, model.config, model.parameters, {{1, 2, 3}}, options);
      for (const std::int32_t id : rows[0].output_ids) std::printf("%d ", id);
      return std::puts(""), 0;
    }
    const Tokenizer tokenizer = Tokenizer::load(argv[1]);
    const std::string prompt = argc > 2 ? argv[2] : "Once upon a time";
    StreamDecoder decoder(tokenizer, true);  // without "<|endoftext|>", where the text ends with it
    std::printf("%s", prompt.c_str());
    generate(*device, model.config, model.parameters, {tokenizer.encode(prompt)}, options, {},
             [&](int, std::int32_t token) {
               std::printf("%s", decoder.push(token).c_str());
               return std::fflush(stdout) != 0;  // true would end the row
             });
    std::printf("%s\n", decoder.finish().c_str());
  } catch (const Error& error) {
    return std::fprintf(stderr, "%s\n", error.message().c_str()), static_cast<int>(error.fault());
  }
}
