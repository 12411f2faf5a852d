#!/usr/bin/env python3
"""Gathers narrator's text: models/narrator/gather.py OUT, on Debian 12 after apt-get update.

Every text is in the public domain and comes out of a Debian package, which apt-get fetches by name:
nothing is installed. OUT gets stories/*.txt, which the second part of the training sees alone, text/*.txt
and held-out/*.txt. A novel is written twice, with the line ends of its print and with a line a paragraph,
straight and curled quotation marks in turn: people's data has all four.
"""
import bz2
import gzip
import lzma
import re
import struct
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

GO = "usr/share/gocode/src/github.com"
R = "usr/lib/R/site-library"
SWORD = "usr/share/sword/modules"
HELD_OUT = {"northanger-abbey", "persuasion"}
NOVELS = {  # file stem -> first words of an object of janeaustenr, which has no names inside
    "emma": "EMMA",
    "mansfield-park": "MANSFIELD PARK",
    "northanger-abbey": "NORTHANGER ABBEY",
    "persuasion": "Persuasion",
    "pride-and-prejudice": "PRIDE AND PREJUDICE",
    "sense-and-sensibility": "SENSE AND SENSIBILITY",
}


def unpack(package, into):
    """The root of an unpacked package."""
    subprocess.run(["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", package], cwd=into, check=True)
    root = into / package
    subprocess.run(["dpkg-deb", "-x", next(into.glob(package + "_*.deb")), root], check=True)
    return root


def r_strings(path):
    """The character vectors of an R package's data: objects behind each other, of 4 bytes with the
    length, 'Z' (xz) or '2' (bzip2) or nothing (zlib), and R's serialisation in XDR: a header of 14
    bytes, or 14 + 4 + the encoding's name in version 3, then type and count, then per string its
    type, its length (-1: missing) and its bytes."""
    data = path.read_bytes()
    while data:
        kind = data[4:5]
        stream = {b"Z": lzma.LZMADecompressor, b"2": bz2.BZ2Decompressor}.get(kind, zlib.decompressobj)()
        raw = stream.decompress(data[5 if kind in b"Z2" else 4:])
        data = stream.unused_data
        if struct.unpack(">i", raw[2:6])[0] == 3:
            at = 18 + struct.unpack(">i", raw[14:18])[0]
        else:
            at = 14
        flags, count = struct.unpack(">ii", raw[at:at + 8])
        if flags & 255 != 16:
            continue
        at += 8
        strings = []
        for _ in range(count):
            length = struct.unpack(">i", raw[at + 4:at + 8])[0]
            strings.append(raw[at + 8:at + 8 + max(length, 0)].decode())
            at += 8 + max(length, 0)
        yield strings


def sword_text(folder, testament, block="b"):
    """A SWORD module's text in order, with its OSIS marks: .bzs has (offset, bytes, bytes unpacked)
    of each zlib block in .bzz, a book; .czs and .czz those of chapters."""
    index = (folder / f"{testament}.{block}zs").read_bytes()
    blocks = (folder / f"{testament}.{block}zz").read_bytes()
    texts = []
    for offset, size, _ in struct.iter_unpack("<III", index):
        if size:
            texts.append(zlib.decompress(blocks[offset:offset + size]).decode("utf-8", "replace"))
    return "\n".join(texts)


def without_marks(text):
    """Plain paragraphs of OSIS."""
    text = re.sub(r"<note\b.*?</note>", " ", text.replace("\n", " "))
    text = re.sub(r"[(\[]?<reference\b.*?</reference>[)\]]?", "", text)
    text = re.sub(r"<title\b[^>]*>", "\n\n", text)
    text = re.sub(r"</title>|</p>|<p\b[^>]*>|<lb[^>]*type=\"x-(?:begin|end)-paragraph\"[^>]*>|"
                  r"<div\b[^>]*type=\"(?:x-p|paragraph|section)\"[^>]*>|</?lg\b[^>]*>|</?item[^>]*>", "\n\n", text)
    text = re.sub(r"<lb?\b[^>]*\bsID=[^>]*>", "\n", text)
    text = re.sub(r"<[^>]*>", "", text)
    for mark, plain in {"&lt;": "<", "&gt;": ">", "&quot;": '"', "&apos;": "'", "&amp;": "&"}.items():
        text = text.replace(mark, plain)
    return text


def paragraphs(text):
    """Between empty lines; those which are hardly letters (tables, rules, figures) are left out."""
    text = text.replace("\r\n", "\n").replace("\ufeff", "").replace("\0", "").replace("_", "").replace("\t", " ")
    for paragraph in re.split(r"\n[ \n]*\n", text):
        lines = [re.sub(r"  +", " ", line.strip()) for line in paragraph.split("\n")]
        paragraph = "\n".join(line for line in lines if line)
        prose = sum(c.isalpha() or c in " \n.,;:!?-'\"“”‘’" for c in paragraph)
        if paragraph and prose >= 0.85 * len(paragraph) and not paragraph.startswith("[Illustration"):
            yield paragraph


def curled(text):
    text = re.sub(r'(^|[\s(\[—-])"', r"\1“", text)
    text = re.sub(r"(^|[\s(\[—“-])'(?!\w\w?\b)", r"\1‘", text)
    return text.replace('"', "”").replace("'", "’")


def straight(text):
    return text.translate({ord("“"): '"', ord("”"): '"', ord("‘"): "'", ord("’"): "'"})


def one_line(paragraph):
    """Verse keeps its lines: those which are short for the print."""
    lines = paragraph.split("\n")
    if len(lines) > 1 and max(map(len, lines)) < 55:
        return paragraph
    return " ".join(lines)


def between(text, first, last=None):
    start = text.index(first)
    return text[start:text.index(last, start) if last else None]


def novel(text):
    """Both prints of a book, each with its quotation marks changing every 40 paragraphs."""
    prints = []
    for as_printed in (True, False):
        out = []
        for i, paragraph in enumerate(paragraphs(text)):
            if not as_printed:
                paragraph = one_line(paragraph)
            out.append(curled(straight(paragraph)) if (i // 40) % 2 == as_printed else straight(paragraph))
        prints.append("\n\n".join(out) + "\n")
    return prints


def plain(text, width_kept=False):
    return "\n\n".join(p if width_kept else one_line(p) for p in paragraphs(text)) + "\n"


def novels(packages):
    found = {}
    for lines in r_strings(unpack("r-cran-janeaustenr", packages) / R / "janeaustenr/data/Rdata.rdb"):
        for stem, title in NOVELS.items():
            if lines and lines[0] == title:
                text = "\n".join(lines)
                found[stem] = re.split(r"\n(?:THE END|FINIS|End of (?:the )?Project)", text)[0]
    for strings in r_strings(unpack("r-cran-tokenizers", packages) / R / "tokenizers/data/Rdata.rdb"):
        if strings and "Moby Dick" in strings[0][:200]:
            found["moby-dick"] = between(strings[0], "CHAPTER 1. Loomings", "End of Project Gutenberg")
    lz4 = unpack("golang-github-pierrec-lz4-dev", packages) / GO / "pierrec/lz4/testdata"
    found["sherlock-holmes"] = between((lz4 / "pg1661.txt").read_text("utf-8"), "ADVENTURE I. A",
                                       "End of the Project Gutenberg")
    found["tom-sawyer"] = between((lz4 / "Mark.Twain-Tom.Sawyer.txt").read_text(), "CHAPTER I\n")
    brotli = unpack("golang-github-andybalholm-brotli-dev", packages) / GO / "andybalholm/brotli/testdata"
    found["opticks"] = between((brotli / "Isaac.Newton-Opticks.txt").read_text("utf-8"), "BOOK OF OPTICKS")
    missing = set(NOVELS) - set(found)
    if missing:
        sys.exit("gather.py: janeaustenr has no " + ", ".join(sorted(missing)))
    return found


def others(packages):
    """Texts that come once: (folder/stem, text)."""
    text = unpack("bible-kjv-text", packages) / "usr/lib"
    program = unpack("bible-kjv", packages) / "usr/bin/bible"
    verses = subprocess.run([program, "-p", f"{text}/", "-f", "gen1:1-rev22:21"], check=True, text=True,
                            stdin=subprocess.DEVNULL, capture_output=True).stdout
    chapters = {}
    for name, verse in re.findall(r"^(\w+):\d+ (.*)$", verses, re.M):
        chapters.setdefault(name, []).append(verse)
    yield "text/bible-king-james", "\n\n".join("\n".join(c) for c in chapters.values()) + "\n"
    web = unpack("sword-text-web", packages) / SWORD / "texts/ztext/engWEB2015eb"
    yield "text/bible-world-english", plain("\n\n".join(without_marks(sword_text(web, t)) for t in ("ot", "nt")))
    spurgeon = unpack("sword-comm-tdavid", packages) / SWORD / "comments/zcom/tdavid"
    yield "text/treasury-of-david", plain(without_marks(sword_text(spurgeon, "ot", block="c")))
    devil = unpack("dict-devil", packages) / "usr/share/dictd/devil.dict.dz"
    yield "stories/devils-dictionary", plain(between(gzip.decompress(devil.read_bytes()).decode(), "ABASEMENT"), True)
    jargon = unpack("dict-jargon", packages) / "usr/share/dictd/jargon.dict.dz"
    entries = gzip.decompress(jargon.read_bytes()).decode()
    entries = re.sub(r"\{\s*([^{}]*)\}", r"\1", between(entries, "@-party"))
    yield "text/jargon-file", plain(re.sub(r"^ +(/.*/, )?(\w+\.)+$", "", entries, flags=re.M))


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: gather.py OUT")
    out = Path(sys.argv[1])
    for folder in ("stories", "text", "held-out"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as packages:
        packages = Path(packages)
        for stem, text in novels(packages).items():
            printed, flowing = novel(text)
            if stem in HELD_OUT:
                (out / f"held-out/{stem}.txt").write_text(printed, "utf-8")
            else:
                (out / f"stories/{stem}-print.txt").write_text(printed, "utf-8")
                (out / f"stories/{stem}-flow.txt").write_text(flowing, "utf-8")
        for stem, text in others(packages):
            (out / f"{stem}.txt").write_text(text, "utf-8")
    for path in sorted(out.rglob("*.txt")):
        print(f"{path.stat().st_size:>10,}  {path.relative_to(out)}")


if __name__ == "__main__":
    main()
