#include "tests/fuzz/targets.h"

#ifdef QUIRE_WITH_TENSORFLOW
#include <leveldb/env.h>
#include <leveldb/options.h>
#include <leveldb/table_builder.h>

#include <filesystem>
#include <map>
#include <string>
#include <string_view>

#include "engine/formats/tensorflow_checkpoint.h"
#include "tests/fuzz/memory_file.h"
#include "tests/fuzz/sound_source.h"

namespace {

/// A table of LevelDB, in memory.
class Written : public leveldb::WritableFile {
 public:
  leveldb::Status Append(const leveldb::Slice& data) override {
    text.append(data.data(), data.size());
    return {};
  }
  leveldb::Status Close() override { return {}; }
  leveldb::Status Flush() override { return {}; }
  leveldb::Status Sync() override { return {}; }

  std::string text;
};

/// One with right checksums, of entries that are a key's size, the key, a value's size, the value.
std::string table_of(std::string_view bytes) {
  std::map<std::string, std::string> entries;
  const auto take = [&] {
    const auto size = bytes.empty() ? 0u : static_cast<unsigned char>(bytes[0]);
    bytes.remove_prefix(bytes.empty() ? 0 : 1);
    const std::string taken(bytes.substr(0, size));
    bytes.remove_prefix(taken.size());
    return taken;
  };
  while (!bytes.empty()) {
    const std::string key = take();
    entries[key] = take();
  }
  Written file;
  leveldb::Options options;
  options.compression = leveldb::kNoCompression;
  leveldb::TableBuilder builder(options, &file);
  for (const auto& [key, value] : entries) builder.Add(key, value);
  QUIRE_FUZZ_REQUIRE(builder.Finish().ok());
  return file.text;
}

/// A folder with an index, and with the data that it speaks of.
struct Folder {
  Folder() : index("model.ckpt.index") {
    const std::string zeros(256, '\0');
    data.set(zeros.data(), zeros.size());
    for (const char* name : {"00000-of-00001", "00000-of-00002"}) {
      std::filesystem::create_symlink(data.path(),
                                      index.path() / (std::string("model.ckpt.data-") + name));
    }
  }
  quire::test::MemoryFolder index;
  quire::test::MemoryFile data;
};

}  // namespace

int fuzz_tensorflow(const std::uint8_t* data, std::size_t size) {
  static Folder folder;
  std::string_view text(reinterpret_cast<const char*>(data), size);
  std::string table(text.substr(size == 0 ? 0 : 1));
  if (size > 0 && data[0] % 2 == 1) table = table_of(text.substr(1));
  const std::filesystem::path index =
      folder.index.with(table.data(), table.size()) / "model.ckpt.index";
  return quire::test::require_sound_or_refused([&] { return quire::TensorflowCheckpoint(index); });
}
#else
int fuzz_tensorflow(const std::uint8_t* /*data*/, std::size_t /*size*/) {
  return 0;
}
#endif

#ifdef QUIRE_LIBFUZZER
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  return fuzz_tensorflow(data, size);
}
#endif
