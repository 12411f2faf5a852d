// The files of a zip archive that are stored as they are, in place: what torch.save() writes.
#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>

namespace quire {

/// Every file of an archive, by name, as a part of the archive's bytes. Reads the central
/// directory (APPNOTE.TXT 4.3, ZIP64 too). `complain` throws: for what is damaged, lies outside, is
/// compressed or encrypted, or has the name of another.
std::map<std::string, std::span<const std::byte>, std::less<>> files_of_zip(
    std::span<const std::byte> archive,
    const std::function<void(const std::string& why)>& complain);

/// Whether a file begins as an archive does.
bool begins_as_zip(std::string_view beginning);

}  // namespace quire
