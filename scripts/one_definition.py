#!/usr/bin/env python3
"""Used by one_definition.sh: inline functions of one name whose machine code differs. Arguments: ELF objects.

All were compiled without optimisation, so one definition gives one code wherever it is compiled, and relocated fields
are still empty. What differs in its bytes, or in the global symbols that it refers to, is two definitions. Only names in
namespaces of the project are looked at: a dozen functions of the standard library differ by what a file includes.
"""
import collections
import struct
import subprocess
import sys

OWN = ("_ZN5quire", "_ZNK5quire")  # quire::…, and its constant members


def functions_of(path):
    """Of every function that a linker merges: its mangled name, and its bytes with the symbols that go into them."""
    with open(path, "rb") as file:
        data = file.read()
    if data[:6] != b"\x7fELF\x02\x01":
        sys.exit(f"error: {path} is no 64-bit little-endian ELF object")
    offset, = struct.unpack_from("<Q", data, 0x28)
    size, count, names_at = struct.unpack_from("<HHH", data, 0x3A)
    first = struct.unpack_from("<IIQQQQIIQQ", data, offset)
    count, names_at = count or first[5], first[6] if names_at == 0xFFFF else names_at
    sections = [struct.unpack_from("<IIQQQQIIQQ", data, offset + size * i) for i in range(count)]

    def text(table, at):
        begin = sections[table][4] + at
        return data[begin:data.index(b"\0", begin)].decode()

    relocations = {s[7]: s for s in sections if s[1] == 4}  # SHT_RELA, by the section they are of
    for index, section in enumerate(sections):
        if section[2] & 0x204 != 0x204:  # SHF_GROUP | SHF_EXECINSTR
            continue
        name = text(names_at, section[0]).removeprefix(".text.")
        if not name.startswith(OWN):
            continue
        refers = []
        if index in relocations:
            _, _, _, _, begin, length, symbols, _, _, _ = relocations[index]
            for at in range(begin, begin + length, 24):
                place, info, addend = struct.unpack_from("<QQq", data, at)
                table = sections[symbols]
                symbol, bits = struct.unpack_from("<IB", data, table[4] + 24 * (info >> 32))
                if bits >> 4:  # not local: names of constants are each file's own
                    refers.append((place, info & 0xFFFFFFFF, addend, text(table[6], symbol)))
        yield name, (data[section[4]:section[4] + section[5]], tuple(refers))


def main():
    seen = collections.defaultdict(dict)  # name: code: the first object that has it
    for path in sys.argv[1:]:
        for name, code in functions_of(path):
            seen[name].setdefault(code, path)
    twice = {name: paths for name, paths in seen.items() if len(paths) > 1}
    plain = subprocess.run(["c++filt"], input="\n".join(twice), capture_output=True, text=True).stdout.splitlines()
    for name, paths in zip(plain, twice.values()):
        print(f"{name} has {len(paths)} definitions:")
        for path in paths.values():
            print(f"  {path}")
    sys.exit(1 if twice else 0)


if __name__ == "__main__":
    main()
