#include "hub/digest.h"

#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <vector>

#include "base/error.h"
#include "hub/shared_library.h"

namespace quire {
namespace {

#define QUIRE_TEXT_OF(value) #value
#define QUIRE_TEXT_OF_VALUE(value) QUIRE_TEXT_OF(value)

/// What is called of OpenSSL's libcrypto.
struct Crypto {
  SharedLibrary library{"libcrypto.so." QUIRE_TEXT_OF_VALUE(OPENSSL_VERSION_MAJOR), "libssl3"};
#define QUIRE_CRYPTO(name) \
  decltype(&EVP_##name) name = library.function<decltype(&EVP_##name)>("EVP_" #name)
  QUIRE_CRYPTO(MD_CTX_new);
  QUIRE_CRYPTO(MD_CTX_free);
  QUIRE_CRYPTO(sha1);
  QUIRE_CRYPTO(sha256);
  QUIRE_CRYPTO(DigestInit_ex);
  QUIRE_CRYPTO(DigestUpdate);
  QUIRE_CRYPTO(DigestFinal_ex);
  QUIRE_CRYPTO(EncodeBlock);
#undef QUIRE_CRYPTO
};

const Crypto& crypto() {
  static const Crypto kCrypto;
  return kCrypto;
}

EVP_MD_CTX* context(const std::shared_ptr<void>& state) {
  return static_cast<EVP_MD_CTX*>(state.get());
}

void check(bool well) {
  if (!well) throw Error(Fault::internal, "OpenSSL cannot compute a hash");
}

}  // namespace

std::optional<DigestKind> kind_of_digest(std::string_view hex) {
  const bool digits = std::all_of(hex.begin(), hex.end(), [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
  });
  if (digits && hex.size() == 64) return DigestKind::sha256;
  if (digits && hex.size() == 40) return DigestKind::git_blob;
  return std::nullopt;
}

Digest::Digest(DigestKind kind, std::uint64_t size)
    : state_(crypto().MD_CTX_new(),
             [](void* state) { crypto().MD_CTX_free(static_cast<EVP_MD_CTX*>(state)); }) {
  const EVP_MD* const method = kind == DigestKind::sha256 ? crypto().sha256() : crypto().sha1();
  check(crypto().DigestInit_ex(context(state_), method, nullptr) == 1);
  if (kind == DigestKind::sha256) return;
  const std::string head = "blob " + std::to_string(size);
  add({head.c_str(), head.size() + 1});  // with the NUL byte
}

void Digest::add(std::string_view bytes) {
  check(crypto().DigestUpdate(context(state_), bytes.data(), bytes.size()) == 1);
}

std::string Digest::hex() {
  std::array<unsigned char, EVP_MAX_MD_SIZE> bytes{};
  unsigned int size = 0;
  check(crypto().DigestFinal_ex(context(state_), bytes.data(), &size) == 1);
  constexpr const char* kDigits = "0123456789abcdef";
  std::string text;
  for (unsigned int i = 0; i < size; ++i) {
    text += kDigits[bytes[i] / 16];
    text += kDigits[bytes[i] % 16];
  }
  return text;
}

std::string digest_of_file(DigestKind kind, const std::filesystem::path& file,
                           const std::function<bool(std::size_t bytes)>& read) {
  std::error_code trouble;
  const std::uintmax_t size = std::filesystem::file_size(file, trouble);
  std::ifstream in(file, std::ios::binary);
  if (trouble || !in) {
    throw Error(Fault::bad_data, "cannot read " + file.string(),
                {trouble ? trouble.message() : "it cannot be opened"});
  }
  Digest digest(kind, size);
  std::vector<char> part(std::size_t{1} << 20);
  std::uintmax_t seen = 0;
  while (in.read(part.data(), static_cast<std::streamsize>(part.size())), in.gcount() > 0) {
    const auto bytes = static_cast<std::size_t>(in.gcount());
    digest.add({part.data(), bytes});
    seen += bytes;
    if (read && !read(bytes)) return {};
  }
  if (in.bad() || seen != size) {
    throw Error(
        Fault::bad_data, "cannot read " + file.string(),
        {"it ended after " + std::to_string(seen) + " of " + std::to_string(size) + " bytes"});
  }
  return digest.hex();
}

std::string base64(std::string_view bytes) {
  // Three bytes make four characters, and EncodeBlock() writes a NUL byte behind them.
  std::string text((bytes.size() + 2) / 3 * 4 + 1, '\0');
  const int size = crypto().EncodeBlock(reinterpret_cast<unsigned char*>(text.data()),
                                        reinterpret_cast<const unsigned char*>(bytes.data()),
                                        static_cast<int>(bytes.size()));
  text.resize(static_cast<std::size_t>(size));
  return text;
}

}  // namespace quire
