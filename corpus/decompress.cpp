#include "corpus/decompress.h"

#ifdef QUIRE_WITH_ZLIB
#include <zlib.h>
#endif
#ifdef QUIRE_WITH_ZSTD
#include <zstd.h>
#endif

#include <algorithm>
#include <array>
#include <limits>
#include <vector>

#include "base/error.h"

namespace quire {

class Unpacker::Format {
 public:
  /// `check`: the command that says what is wrong with a file.
  Format(std::string name, std::string check) : name_(std::move(name)), check_(std::move(check)) {}
  virtual ~Format() = default;
  virtual void add(std::string_view packed, const TakeText& take) = 0;
  void finish() const {
    if (!ended_) fail("it ends before its end: the file was cut off");
  }

 protected:
  [[noreturn]] void fail(const std::string& why) const {
    throw Error(Fault::bad_data, "cannot unpack " + name_, {why}, check_ + " " + name_);
  }
  void give(std::size_t bytes, const TakeText& take) const {
    if (bytes > 0) take({buffer_.data(), bytes});
  }

  std::vector<char> buffer_ = std::vector<char>(1 << 18);  // of text
  bool ended_ = false;  // there is nothing behind the end of a member or frame

 private:
  std::string name_, check_;
};

namespace {

#if !defined(QUIRE_WITH_ZLIB) || !defined(QUIRE_WITH_ZSTD)
[[noreturn]] void throw_not_built_in(const std::string& name, const std::string& library,
                                     const std::string& unpack) {
  throw Error(Fault::device, "this build of Quire cannot unpack " + name,
              {"it was built without " + library}, unpack + " " + name);
}
#endif

#ifdef QUIRE_WITH_ZLIB
class Gzip : public Unpacker::Format {
 public:
  explicit Gzip(const std::string& name) : Format(name, "gzip --test") {
    // 15: the largest window; 16: with gzip's header and checksum.
    if (::inflateInit2(&stream_, 15 + 16) != Z_OK) throw std::bad_alloc();
  }
  ~Gzip() override { ::inflateEnd(&stream_); }

  void add(std::string_view packed, const TakeText& take) override {
    constexpr std::size_t kMost = std::numeric_limits<uInt>::max();  // zlib counts with 32 bits
    for (; packed.size() > kMost; packed.remove_prefix(kMost)) add(packed.substr(0, kMost), take);
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(packed.data()));
    stream_.avail_in = static_cast<uInt>(packed.size());
    bool full = false;  // there may be more text than there was room for
    while (stream_.avail_in > 0 || full) {
      if (ended_) ::inflateReset(&stream_);  // another member
      stream_.next_out = reinterpret_cast<Bytef*>(buffer_.data());
      stream_.avail_out = static_cast<uInt>(buffer_.size());
      const int result = ::inflate(&stream_, Z_NO_FLUSH);
      if (result == Z_MEM_ERROR) throw std::bad_alloc();
      if (result != Z_OK && result != Z_BUF_ERROR && result != Z_STREAM_END) {
        fail(stream_.msg != nullptr ? stream_.msg : "it is not gzip");
      }
      ended_ = result == Z_STREAM_END;
      full = stream_.avail_out == 0 && !ended_;
      give(buffer_.size() - stream_.avail_out, take);
    }
  }

 private:
  z_stream stream_{};
};
#endif

#ifdef QUIRE_WITH_ZSTD
class Zstd : public Unpacker::Format {
 public:
  explicit Zstd(const std::string& name)
      : Format(name, "zstd --test"), context_(::ZSTD_createDCtx(), &::ZSTD_freeDCtx) {
    if (!context_) throw std::bad_alloc();
  }

  void add(std::string_view packed, const TakeText& take) override {
    ZSTD_inBuffer in{packed.data(), packed.size(), 0};
    bool full = false;  // there may be more text than there was room for
    while (in.pos < in.size || full) {
      ZSTD_outBuffer out{buffer_.data(), buffer_.size(), 0};
      const std::size_t left = ::ZSTD_decompressStream(context_.get(), &out, &in);
      if (::ZSTD_isError(left)) fail(::ZSTD_getErrorName(left));
      ended_ = left == 0;
      full = out.pos == out.size && !ended_;
      give(out.pos, take);
    }
  }

 private:
  std::unique_ptr<ZSTD_DCtx, std::size_t (*)(ZSTD_DCtx*)> context_;
};
#endif

std::unique_ptr<Unpacker::Format> format_of(Compression compression, const std::string& name) {
  switch (compression) {
    case Compression::gzip:
#ifdef QUIRE_WITH_ZLIB
      return std::make_unique<Gzip>(name);
#else
      throw_not_built_in(name, "zlib", "gunzip --keep");
#endif
    case Compression::zstd:
#ifdef QUIRE_WITH_ZSTD
      return std::make_unique<Zstd>(name);
#else
      throw_not_built_in(name, "libzstd", "unzstd");
#endif
    case Compression::none:
      break;
  }
  return nullptr;
}

}  // namespace

Unpacker::Unpacker(Compression compression, const std::string& name)
    : format_(format_of(compression, name)) {}
Unpacker::Unpacker(Unpacker&&) noexcept = default;
Unpacker::~Unpacker() = default;

void Unpacker::add(std::string_view packed, const TakeText& take) {
  if (format_) {
    format_->add(packed, take);
  } else {
    take(packed);
  }
}

void Unpacker::finish() {
  if (format_) format_->finish();
}

std::string decompress(std::string_view packed, Compression compression, const std::string& name) {
  std::string text;
  Unpacker unpacker(compression, name);
  unpacker.add(packed, [&](std::string_view part) { text += part; });
  unpacker.finish();
  return text;
}

}  // namespace quire
