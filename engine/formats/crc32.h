// CRC-32 as zip archives have it (ISO 3309: the polynomial 0xEDB88320, reflected).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace quire {

std::uint32_t crc32(std::span<const std::byte> bytes);

/// That of two parts, one after the other, from those of each and the size of the second.
std::uint32_t joined_crc32(std::uint32_t first, std::uint32_t second, std::size_t second_size);

}  // namespace quire
