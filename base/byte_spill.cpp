#include "base/byte_spill.h"

#include <algorithm>

namespace quire {
namespace {

constexpr std::size_t kSpill = 1 << 22;  // bytes held in memory, and written at once

}  // namespace

void ByteSpill::add(std::string_view bytes) {
  while (!bytes.empty()) {
    const std::size_t part = std::min(bytes.size(), kSpill - memory_.size());
    memory_ += bytes.substr(0, part);
    bytes.remove_prefix(part);
    if (memory_.size() == kSpill) flush();
  }
}

void ByteSpill::flush() {
  if (!file_) file_.emplace(folder_);
  file_->write(memory_);
  in_file_ += memory_.size();
  memory_.clear();
}

void ByteSpill::read(std::size_t offset, std::span<char> to) const {
  if (offset < in_file_) {
    const std::size_t part = std::min(to.size(), in_file_ - offset);
    file_->read(offset, to.first(part));
    to = to.subspan(part);
    offset += part;
  }
  if (!to.empty()) memory_.copy(to.data(), to.size(), offset - in_file_);
}

void ByteSpill::for_each_block(const std::function<void(std::string_view)>& take) const {
  std::string block;
  for (std::size_t at = 0; at < in_file_; at += block.size()) {
    block.resize(std::min(kSpill, in_file_ - at));
    file_->read(at, block);
    take(block);
  }
  if (!memory_.empty()) take(memory_);
}

std::string_view ByteSpill::map() {
  if (!file_) return memory_;
  if (!mapped_) {
    flush();
    std::string().swap(memory_);
    mapped_.emplace(*file_);
  }
  return mapped_->text();
}

void ByteSpill::let_go(std::string_view part) const {
  if (mapped_) mapped_->let_go(part);
}

void ByteSpill::clear() {
  memory_.clear();
  mapped_.reset();
  file_.reset();
  in_file_ = 0;
}

}  // namespace quire
