#include "kernels/cuda/proof.h"

#include <cstdint>
#include <filesystem>
#include <system_error>

#include "base/build_id.h"
#include "base/cache_folder.h"
#include "base/file.h"
#include "base/hash.h"

namespace quire::cuda {
namespace {

namespace fs = std::filesystem;

std::string text_of(const CardKey& key) {
  return "quire doctor --verify passed\n" + lines_of(key);
}

fs::path file_of(const CardKey& key) {
  return cache_folder() / ("verified-" + hash_text(hash64(lines_of(key))) + ".txt");
}

}  // namespace

std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

CardKey key_of(const cudaDeviceProp& card) {
  int driver = 0;
  QUIRE_CUDA(cudaDriverGetVersion(&driver), "asking for the driver's version");
  return {.card = std::string(card.name) + ", compute capability " + std::to_string(card.major) +
                  "." + std::to_string(card.minor) + ", " +
                  std::to_string(card.multiProcessorCount) + " processors",
          .driver = version_text(driver),
          .build = build_id()};
}

std::string lines_of(const CardKey& key) {
  return "card " + key.card + "\ndriver " + key.driver + "\nbuild " + key.build + "\n";
}

std::string why_unproven(const CardKey& key) {
  if (key.build.empty()) return "the linker gave this build no id to keep a proof by";
  if (cache_folder().empty()) return "neither QUIRE_CACHE_DIR nor HOME says where a proof is kept";
  std::error_code error;
  if (!fs::exists(file_of(key), error)) {
    return "'quire doctor `verify`' has not passed with this build on this card and driver"_named;
  }
  try {
    if (read_file(file_of(key)) == text_of(key)) return "";
  } catch (const Error&) {  // cannot be read: the same as not to be trusted
  }
  return file_of(key).string() + " is damaged; 'quire doctor `verify`' writes it anew"_named;
}

void keep_proof(const CardKey& key, bool passed) {
  if (key.build.empty() || cache_folder().empty()) {
    throw Error(Fault::device, "the result cannot be kept: " + why_unproven(key));
  }
  std::error_code error;
  if (!passed) {
    fs::remove(file_of(key), error);
    if (error) {
      throw Error(Fault::bad_data,
                  file_of(key).string() + " cannot be removed: " + error.message());
    }
    return;
  }
  fs::create_directories(cache_folder(), error);  // where it fails, writing says why
  write_file(file_of(key), text_of(key));
}

}  // namespace quire::cuda
