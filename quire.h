// What a program on top of the library includes: #include <quire/quire.h>, once Quire is installed.
// Each header comes alone as well: <quire/engine/generation/generator.h>.
//
// A program opens a device, loads a model or makes one, and generates or trains: examples/.
// Everything lies in namespace quire. The library throws Error and prints nothing.
#pragma once

// Errors: what, where, why, and what to try.
#include "base/error.h"

// Where it computes: open_device("auto").
#include "kernels/open_device.h"

// Text to token ids and back, and training a vocabulary.
#include "tokenizer/tokenizer.h"

// Models: their shapes, weights and folders; LoRA adapters.
#include "engine/formats/adapter_folder.h"
#include "engine/formats/adapter_merge.h"
#include "engine/formats/hub_folder.h"
#include "engine/formats/safetensors.h"
#include "engine/model/config.h"
#include "engine/model/gpt2.h"
#include "engine/model/lora.h"
#include "engine/model/parameters.h"
#include "engine/model/vocabulary.h"

// Writing: generate(), texts and beam searches that come and go in a Session, or token by token with
// a Gpt2Decoder.
#include "engine/generation/config.h"
#include "engine/generation/generator.h"
#include "engine/generation/session.h"
#include "engine/model/kv_cache.h"

// Training: train(), its options, its logs, a page and a card of it.
#include "engine/training/checkpoint.h"
#include "engine/training/log_files.h"
#include "engine/training/trainer.h"
#include "engine/training/training_config.h"
#include "report/html_report.h"
#include "report/model_card.h"

// Text and model together: models by name and their tokenizers, requests for texts, scores of texts, data to train on.
#include "pipeline/model_path.h"
#include "pipeline/model_tokenizer.h"
#include "pipeline/prompts.h"
#include "pipeline/run_requests.h"
#include "pipeline/scoring.h"
#include "pipeline/stop_strings.h"
#include "pipeline/training_data.h"

// Measuring: perplexity, and what texts are like.
#include "corpus/metrics.h"
#include "corpus/samples.h"
#include "engine/evaluation/perplexity.h"

// Data: files to records, cleaned and tokenized; shards for what memory does not hold.
#include "corpus/clean.h"
#include "corpus/inspect.h"
#include "corpus/keywords.h"
#include "corpus/records.h"
#include "corpus/template.h"
#include "tokens/shards.h"
#include "tokens/split.h"
#include "tokens/store.h"
#include "tokens/view.h"
