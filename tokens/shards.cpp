// The format of a shard. All numbers are little-endian.
//
//   byte 0    8 bytes   "QRTOKENS"
//        8    u32       version, 1
//       12    u32       bytes per id, 2 or 4
//       16    u32       1 where there are labels, else 0
//       20    u32       size of the vocabulary: ids are below it
//       24    u64       records, R
//       32    u64       ids, N
//       40    u64       fingerprint of the tokenizer
//       48    u64       XXH3 of all that follows the header
//       56    u64       XXH3 of the bytes 0 to 55
//       64    i64 × (R + 1)   where each record begins, in ids, and N
//       then  N ids, then N labels where there are any, each to a multiple of 8 bytes with zeros
//
// Labels are as wide as ids; -100, an ignored one, is 65535 in 16 bits.
#include "tokens/shards.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <utility>

#include "base/error.h"
#include "base/hash.h"
#include "base/text.h"
#include "tokens/store.h"

namespace quire {
namespace {

namespace fs = std::filesystem;

static_assert(std::endian::native == std::endian::little, "shards are mapped as they are");

constexpr std::string_view kMagic = "QRTOKENS";

struct Header {
  std::array<char, 8> magic;
  std::uint32_t version, bytes_per_id, labels, vocab_size;
  std::uint64_t records, ids, tokenizer, checksum, header_checksum;
};
static_assert(sizeof(Header) == 64);
constexpr std::size_t kHeaderChecked = 56;  // bytes under header_checksum

template <class T>
std::string_view bytes_of(std::span<const T> values) {
  return {reinterpret_cast<const char*>(values.data()), values.size_bytes()};
}

std::uint64_t header_checksum(const Header& header) {
  return hash64(bytes_of(std::span<const Header>(&header, 1)).substr(0, kHeaderChecked));
}

std::size_t padded(std::size_t bytes) {
  return (bytes + 7) / 8 * 8;
}

}  // namespace

TokenShard::TokenShard(const fs::path& path) : file_(path) {
  const auto damaged = [&](const std::string& why) {
    throw Error(Fault::bad_data, path.string() + " is not a token shard, or damaged", {why},
                "quire data prepare");
  };
  const std::string_view text = file_.text();
  Header header;
  if (text.size() < sizeof header) damaged("it is shorter than a header");
  std::memcpy(&header, text.data(), sizeof header);
  if (std::string_view(header.magic.data(), header.magic.size()) != kMagic) {
    damaged("it does not begin with " + std::string(kMagic));
  }
  if (header.version != 1) {
    damaged(fmt::format("it is of version {}, this program reads 1", header.version));
  }
  if (header.header_checksum != header_checksum(header)) damaged("its header's checksum is wrong");
  if ((header.bytes_per_id != 2 && header.bytes_per_id != 4) || header.labels > 1 ||
      header.vocab_size == 0 || header.vocab_size > INT32_MAX) {
    damaged("its header makes no sense");
  }
  // Sizes that the file cannot hold are refused before they are multiplied.
  if (header.records >= text.size() / 8 || header.ids > text.size() / header.bytes_per_id) {
    damaged("it is shorter than its header says");
  }
  const std::size_t offsets_bytes = (header.records + 1) * 8;
  const std::size_t ids_bytes = header.ids * header.bytes_per_id;
  const std::size_t arrays = header.labels == 1 ? 2 : 1;
  const std::size_t size = sizeof header + offsets_bytes + arrays * padded(ids_bytes);
  if (text.size() != size) {
    damaged(fmt::format("it has {} bytes, its header says {}", text.size(), size));
  }
  if (hash64(text.substr(sizeof header)) != header.checksum) damaged("its checksum is wrong");

  const char* at = text.data() + sizeof header;
  offsets_ = {reinterpret_cast<const std::int64_t*>(at), header.records + 1};
  if (offsets_.front() != 0 || offsets_.back() != static_cast<std::int64_t>(header.ids) ||
      !std::is_sorted(offsets_.begin(), offsets_.end())) {
    damaged("its records are not in order");
  }
  const auto ids_at = [&](const char* begin) -> Ids {
    if (header.bytes_per_id == 2) {
      return std::span(reinterpret_cast<const std::uint16_t*>(begin), header.ids);
    }
    return std::span(reinterpret_cast<const std::int32_t*>(begin), header.ids);
  };
  at += offsets_bytes;
  ids_ = ids_at(at);
  if (header.labels == 1) labels_ = ids_at(at + padded(ids_bytes));
  vocabulary_ = {.size = static_cast<int>(header.vocab_size), .fingerprint = header.tokenizer};
  checksum_ = header.checksum;
}

TokenView view_of(std::shared_ptr<const std::vector<TokenShard>> shards) {
  std::vector<TokenStream::Part> ids, labels;
  std::vector<std::span<const std::int64_t>> offsets;
  const bool labelled = std::any_of(shards->begin(), shards->end(),
                                    [](const TokenShard& shard) { return shard.labels(); });
  const auto part = [](const TokenShard::Ids& numbers) {
    return std::visit([](auto span) { return TokenStream::Part(span); }, numbers);
  };
  for (const TokenShard& shard : *shards) {
    ids.push_back(part(shard.ids()));
    if (labelled) labels.push_back(part(shard.labels().value_or(shard.ids())));
    offsets.push_back(shard.offsets());
  }
  TokenView view;
  view.ids = TokenStream(ids);
  view.labels = TokenStream(labels);
  view.offsets = RecordOffsets(offsets);
  view.owner = std::move(shards);
  return view;
}

ShardWriter::ShardWriter(fs::path folder, const ShardVocabulary& vocabulary,
                         std::int64_t shard_tokens)
    : folder_(std::move(folder)),
      vocabulary_(vocabulary),
      narrow_(vocabulary.size <= kNarrowVocabulary),
      shard_tokens_(shard_tokens),
      offsets_(folder_),
      ids_(folder_),
      labels_(folder_) {}

void ShardWriter::add(const TokenRecords& part) {
  for (std::size_t i = 0; i < part.labels.size(); ++i) {
    const std::int32_t label = part.labels[i];
    if (label == kIgnoredTarget || (label >= 0 && label < vocabulary_.size)) continue;
    const auto next =
        std::upper_bound(part.offsets.begin(), part.offsets.end(), static_cast<std::int64_t>(i));
    throw Error(Fault::bad_data,
                "record " + with_commas(records_ + shard_records_ + (next - part.offsets.begin())) +
                    " has the label " + std::to_string(label),
                {"the tokenizer has " + with_commas(vocabulary_.size) + " ids, from 0"},
                "encode the data with this model's tokenizer");
  }
  const std::span<const std::int32_t> ids(part.ids);
  const std::span<const std::int32_t> labels = part.labels.empty() ? ids : part.labels;
  const auto append = [&](std::size_t first, std::size_t last) {
    // Labels that came with an earlier record of the shard go on; before them they are the ids.
    if (!part.labels.empty() && labels_.size() == 0) {
      ids_.for_each_block([&](std::string_view block) { labels_.add(block); });
    }
    if (!part.labels.empty() || labels_.size() > 0) {
      add_ids(labels_, labels.subspan(first, last - first), narrow_);
    }
    add_ids(ids_, ids.subspan(first, last - first), narrow_);
  };
  for (std::int64_t r = 0; r < part.size(); ++r) {
    append(part.offsets[r], part.offsets[r + 1]);
    const std::size_t end = ids_.size() / bytes_per_id();
    offsets_.add_value(end);
    ++shard_records_;
    if (std::cmp_greater_equal(end, shard_tokens_)) write_shard();
  }
  append(part.offsets.back(), ids.size());
}

void ShardWriter::finish() {
  if (shard_records_ > 0) write_shard();
}

void ShardWriter::write_shard() {
  constexpr std::string_view kZeros("\0\0\0\0\0\0\0\0", 8);
  const auto for_each_block = [&](const std::function<void(std::string_view)>& take) {
    take(kZeros);  // where the first record begins
    offsets_.for_each_block(take);
    for (const ByteSpill* numbers : {&ids_, &labels_}) {
      numbers->for_each_block(take);
      take(kZeros.substr(0, padded(numbers->size()) - numbers->size()));
    }
  };
  HashStream checksum;
  for_each_block([&](std::string_view block) { checksum.add(block); });
  const std::size_t tokens = ids_.size() / bytes_per_id();
  Header header{.magic = {},
                .version = 1,
                .bytes_per_id = static_cast<std::uint32_t>(bytes_per_id()),
                .labels = labels_.size() == 0 ? 0u : 1u,
                .vocab_size = static_cast<std::uint32_t>(vocabulary_.size),
                .records = static_cast<std::uint64_t>(shard_records_),
                .ids = tokens,
                .tokenizer = vocabulary_.fingerprint,
                .checksum = checksum.hash64(),
                .header_checksum = 0};
  std::copy(kMagic.begin(), kMagic.end(), header.magic.begin());
  header.header_checksum = header_checksum(header);

  const std::string name = fmt::format("shard-{:05}{}", shards_.size(), kShardExtension);
  AtomicFile file(folder_ / name);
  file.write(bytes_of(std::span<const Header>(&header, 1)));
  for_each_block([&](std::string_view block) { file.write(block); });
  file.commit();
  shards_.push_back({.file = name,
                     .records = shard_records_,
                     .tokens = static_cast<std::int64_t>(tokens),
                     .checksum = header.checksum});
  records_ += shard_records_;
  tokens_ += static_cast<std::int64_t>(tokens);
  labelled_ |= labels_.size() > 0;
  for (ByteSpill* bytes : {&offsets_, &ids_, &labels_}) bytes->clear();
  shard_records_ = 0;
}

}  // namespace quire
