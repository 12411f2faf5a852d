#include "corpus/decompress.h"

#ifdef QUIRE_WITH_ZLIB
#include <zlib.h>
#endif
#ifdef QUIRE_WITH_ZSTD
#include <zstd.h>
#endif

#include <algorithm>
#include <limits>
#include <memory>

#include "base/error.h"

namespace quire {
namespace {

constexpr std::size_t kStep = 1 << 20;  // bytes of text asked for at a time

#if defined(QUIRE_WITH_ZLIB) || defined(QUIRE_WITH_ZSTD)
[[noreturn]] void throw_damaged(const std::string& name, const std::string& why,
                                const std::string& check) {
  throw Error(Fault::bad_data, "cannot unpack " + name, {why}, check + " " + name);
}
#endif

#if !defined(QUIRE_WITH_ZLIB) || !defined(QUIRE_WITH_ZSTD)
[[noreturn]] void throw_not_built_in(const std::string& name, const std::string& library,
                                     const std::string& unpack) {
  throw Error(Fault::device, "this build of Quire cannot unpack " + name,
              {"it was built without " + library}, unpack + " " + name);
}
#endif

#ifdef QUIRE_WITH_ZLIB
std::string gunzip(std::string_view packed, const std::string& name) {
  const char* const check = "gzip --test";
  z_stream stream{};
  // 15: the largest window; 16: with gzip's header and checksum.
  if (::inflateInit2(&stream, 15 + 16) != Z_OK) throw std::bad_alloc();
  const std::unique_ptr<z_stream, void (*)(z_stream*)> end(&stream,
                                                           [](z_stream* s) { ::inflateEnd(s); });
  std::string text;
  std::size_t written = 0;
  while (true) {
    if (stream.avail_in == 0) {  // zlib counts with 32 bits
      stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(packed.data()));
      stream.avail_in =
          static_cast<uInt>(std::min<std::size_t>(packed.size(), std::numeric_limits<uInt>::max()));
      packed.remove_prefix(stream.avail_in);
    }
    if (text.size() - written < kStep) text.resize(std::max(2 * text.size(), kStep));
    const std::size_t room =
        std::min<std::size_t>(text.size() - written, std::numeric_limits<uInt>::max());
    stream.next_out = reinterpret_cast<Bytef*>(text.data() + written);
    stream.avail_out = static_cast<uInt>(room);
    const int result = ::inflate(&stream, Z_NO_FLUSH);
    written += room - stream.avail_out;
    if (result == Z_STREAM_END) {
      if (stream.avail_in == 0 && packed.empty()) break;
      ::inflateReset(&stream);  // another member
    } else if (result == Z_BUF_ERROR ||
               (result == Z_OK && stream.avail_in == 0 && packed.empty() && stream.avail_out > 0)) {
      throw_damaged(name, "it ends before its end: the file was cut off", check);
    } else if (result == Z_MEM_ERROR) {
      throw std::bad_alloc();
    } else if (result != Z_OK) {
      throw_damaged(name, stream.msg != nullptr ? stream.msg : "it is not gzip", check);
    }
  }
  text.resize(written);
  return text;
}
#endif

#ifdef QUIRE_WITH_ZSTD
std::string unzstd(std::string_view packed, const std::string& name) {
  const char* const check = "zstd --test";
  const std::unique_ptr<ZSTD_DCtx, std::size_t (*)(ZSTD_DCtx*)> context(::ZSTD_createDCtx(),
                                                                        &::ZSTD_freeDCtx);
  if (!context) throw std::bad_alloc();
  std::string text;
  ZSTD_inBuffer in{packed.data(), packed.size(), 0};
  ZSTD_outBuffer out{nullptr, 0, 0};
  std::size_t left = 1;  // 0 between two frames
  while (in.pos < in.size || left != 0) {
    if (text.size() - out.pos < kStep) text.resize(std::max(2 * text.size(), kStep));
    const std::size_t read = in.pos, written = out.pos;
    out.dst = text.data();
    out.size = text.size();
    left = ::ZSTD_decompressStream(context.get(), &out, &in);
    if (::ZSTD_isError(left)) throw_damaged(name, ::ZSTD_getErrorName(left), check);
    if (left != 0 && in.pos == read && out.pos == written) {
      throw_damaged(name, "it ends before its end: the file was cut off", check);
    }
  }
  text.resize(out.pos);
  return text;
}
#endif

}  // namespace

std::string decompress(std::string_view packed, Compression compression, const std::string& name) {
  switch (compression) {
    case Compression::gzip:
#ifdef QUIRE_WITH_ZLIB
      return gunzip(packed, name);
#else
      throw_not_built_in(name, "zlib", "gunzip --keep");
#endif
    case Compression::zstd:
#ifdef QUIRE_WITH_ZSTD
      return unzstd(packed, name);
#else
      throw_not_built_in(name, "libzstd", "unzstd");
#endif
    case Compression::none:
      break;
  }
  return std::string(packed);
}

}  // namespace quire
