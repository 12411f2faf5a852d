#include "corpus/decompress.h"

#include <zlib.h>

#ifdef QUIRE_WITH_ZSTD
#include <zstd.h>
#endif

#include <algorithm>
#include <limits>
#include <memory>
#include <new>

#include "base/error.h"

namespace quire {

Unpacker::Step Unpacker::gzip() const {
  const std::shared_ptr<z_stream> stream(new z_stream{}, [](z_stream* ended) {
    ::inflateEnd(ended);
    delete ended;
  });
  // 15: the largest window; 16: with gzip's header and checksum.
  if (::inflateInit2(stream.get(), 15 + 16) != Z_OK) throw std::bad_alloc();
  return [this, stream](std::string_view& packed, std::span<char> to, bool& ended) {
    if (ended) ::inflateReset(stream.get());  // another member
    // zlib counts with 32 bits.
    const auto part = std::min<std::size_t>(packed.size(), std::numeric_limits<uInt>::max());
    stream->next_in = reinterpret_cast<Bytef*>(const_cast<char*>(packed.data()));
    stream->avail_in = static_cast<uInt>(part);
    stream->next_out = reinterpret_cast<Bytef*>(to.data());
    stream->avail_out = static_cast<uInt>(to.size());
    const int result = ::inflate(stream.get(), Z_NO_FLUSH);
    if (result == Z_MEM_ERROR) throw std::bad_alloc();
    if (result != Z_OK && result != Z_BUF_ERROR && result != Z_STREAM_END) {
      fail(stream->msg != nullptr ? stream->msg : "it is not gzip");
    }
    ended = result == Z_STREAM_END;
    packed.remove_prefix(part - stream->avail_in);
    return to.size() - stream->avail_out;
  };
}

Unpacker::Step Unpacker::zstd() const {
#ifdef QUIRE_WITH_ZSTD
  const std::shared_ptr<ZSTD_DCtx> context(::ZSTD_createDCtx(), &::ZSTD_freeDCtx);
  if (!context) throw std::bad_alloc();
  return [this, context](std::string_view& packed, std::span<char> to, bool& ended) {
    ZSTD_inBuffer in{packed.data(), packed.size(), 0};
    ZSTD_outBuffer out{to.data(), to.size(), 0};
    const std::size_t left = ::ZSTD_decompressStream(context.get(), &out, &in);
    if (::ZSTD_isError(left)) fail(::ZSTD_getErrorName(left));
    ended = left == 0;
    packed.remove_prefix(in.pos);
    return out.pos;
  };
#else
  throw Error(Fault::device, "this build of Quire cannot unpack " + name_,
              {"it was built without libzstd"}, "unzstd " + name_);
#endif
}

Unpacker::Unpacker(Compression compression, std::string name) : name_(std::move(name)) {
  if (compression == Compression::none) return;
  text_.resize(1 << 18);
  const bool is_gzip = compression == Compression::gzip;
  check_ = is_gzip ? "gzip --test " : "zstd --test ";
  step_ = is_gzip ? gzip() : zstd();
}

void Unpacker::add(std::string_view packed, const TakeText& take) {
  if (!step_) return take(packed);
  bool full = false;  // there may be more text than there was room for
  while (!packed.empty() || full) {
    const std::size_t bytes = step_(packed, text_, ended_);
    full = bytes == text_.size() && !ended_;
    if (bytes > 0) take({text_.data(), bytes});
  }
}

void Unpacker::finish() const {
  if (step_ && !ended_) fail("it ends before its end: the file was cut off");
}

void Unpacker::fail(const std::string& why) const {
  throw Error(Fault::bad_data, "cannot unpack " + name_, {why}, check_ + name_);
}

}  // namespace quire
