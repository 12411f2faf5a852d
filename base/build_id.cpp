// The id is a note in the program: a header of three numbers (bytes of the name, bytes of the
// content, type), the name "GNU", the content, each padded to four bytes.
#include "base/build_id.h"

#include <elf.h>
#include <fmt/format.h>
#include <link.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace quire {
namespace {

std::size_t padded(std::size_t bytes) {
  return (bytes + 3) / 4 * 4;
}

std::string id_in(const std::byte* notes, std::size_t bytes) {
  for (std::size_t at = 0; at + sizeof(ElfW(Nhdr)) <= bytes;) {
    ElfW(Nhdr) note;
    std::memcpy(&note, notes + at, sizeof note);
    const std::byte* const name = notes + at + sizeof note;
    const std::byte* const content = name + padded(note.n_namesz);
    at += sizeof note + padded(note.n_namesz) + padded(note.n_descsz);
    if (at > bytes) break;
    if (note.n_type != NT_GNU_BUILD_ID || note.n_namesz != 4 || std::memcmp(name, "GNU", 4) != 0) {
      continue;
    }
    std::string id;
    for (std::size_t i = 0; i < note.n_descsz; ++i) {
      id += fmt::format("{:02x}", std::to_integer<unsigned>(content[i]));
    }
    return id;
  }
  return "";
}

/// Of the object that this function is linked into, whether program or library.
int look_into(dl_phdr_info* object, std::size_t, void* id) {
  const auto own = reinterpret_cast<std::uintptr_t>(&look_into);
  bool here = false;
  for (int i = 0; i < object->dlpi_phnum; ++i) {
    const ElfW(Phdr)& part = object->dlpi_phdr[i];
    const std::uintptr_t begin = object->dlpi_addr + part.p_vaddr;
    here |= part.p_type == PT_LOAD && own - begin < part.p_memsz;
  }
  if (!here) return 0;
  for (int i = 0; i < object->dlpi_phnum; ++i) {
    const ElfW(Phdr)& part = object->dlpi_phdr[i];
    if (part.p_type != PT_NOTE) continue;
    const auto* notes = reinterpret_cast<const std::byte*>(object->dlpi_addr + part.p_vaddr);
    const std::string found = id_in(notes, part.p_memsz);
    if (!found.empty()) *static_cast<std::string*>(id) = found;
  }
  return 1;
}

}  // namespace

std::string build_id() {
  std::string id;
  dl_iterate_phdr(look_into, &id);
  return id;
}

}  // namespace quire
