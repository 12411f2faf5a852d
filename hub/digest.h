// The hashes that the Hub names contents by: SHA-256 for files in Git LFS, and for all others the
// SHA-1 of git's blob, which is "blob SIZE", a NUL byte and the content. OpenSSL computes them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace quire {

enum class DigestKind { sha256, git_blob };

/// The kind of a hash in lower-case hexadecimal digits: 64 of them, or 40. nullopt for anything else.
std::optional<DigestKind> kind_of_digest(std::string_view hex);

/// Of content that comes in parts. Throws Error(device) where OpenSSL's library is missing.
class Digest {
 public:
  /// `size` bytes are to come, which git's kind begins with.
  Digest(DigestKind kind, std::uint64_t size);
  void add(std::string_view bytes);
  /// In hexadecimal digits. Once, at the end.
  std::string hex();

 private:
  std::shared_ptr<void> state_;  // EVP_MD_CTX
};

/// Of a file, read in parts of 1 MiB; `read(bytes)` is told of each, and stops where it answers false:
/// then the result is empty. Throws Error(bad_data) where the file cannot be read or its size changes.
std::string digest_of_file(DigestKind kind, const std::filesystem::path& file,
                           const std::function<bool(std::size_t bytes)>& read = {});

/// In the usual alphabet, with '=' at the end and no line breaks.
std::string base64(std::string_view bytes);

}  // namespace quire
