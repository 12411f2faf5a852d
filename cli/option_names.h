// One vocabulary: an option that several commands have is called the same in all of them, and takes
// the same aliases. The first name is the one in errors, in the help and in quire_config.json.
#pragma once

namespace quire {

inline constexpr const char* kModelNames = "model,m,model-dir,model-name-or-path";
inline constexpr const char* kTokenizerNames = "tokenizer,tokenizer-name";
/// Of commands that want nothing of a model but its tokenizer.
inline constexpr const char* kVocabularyNames =
    "tokenizer,m,tokenizer-name,model,model-dir,model-name-or-path";
inline constexpr const char* kDataNames = "data,data-dir,train-file,train-data-file";
inline constexpr const char* kValidationNames = "validation-file,eval-data-file";
inline constexpr const char* kBlockNames = "block-size,max-length,max-seq-length";
inline constexpr const char* kBatchNames =
    "per-device-train-batch-size,batch-size,per-gpu-train-batch-size";
inline constexpr const char* kOutputFolderNames = "output-dir,o,model-output-dir";
inline constexpr const char* kOverwriteFolderNames = "overwrite-output-dir,overwrite";
inline constexpr const char* kOutputFileNames = "output,o,output-file";
inline constexpr const char* kOverwriteFileNames = "overwrite,overwrite-output-dir";

}  // namespace quire
