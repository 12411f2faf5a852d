#!/usr/bin/env python3
"""Finds two classes of one name, and two inline functions or variables of one name, which no compiler sees: each looks
at one file. The linker takes the first and drops the other, and what was compiled for that one reads the wrong members.

  scripts/one_definition.py [FILE ...]   C++ and CUDA sources and headers; without any, all that git knows

Names in unnamed namespaces, static ones and those inside functions are each file's own; a function that is not inline
is defined twice only where the linker says so. Exits 1 where a name is defined in two files, 2 where it cannot look.
Needs Universal Ctags (universal-ctags).
"""
import collections
import json
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
CTAGS = ["ctags", "--options=NONE", "-L", "-", "-f", "-", "--output-format=json", "--sort=no",
         "--languages=C++,CUDA", "--langmap=C++:+.cu.cuh", "--kinds-C++=cfgsuv", "--fields=+nKSs",
         "--fields-C++=+{properties}{template}{specialization}",
         "-D", "TEST_CASE(...)=static void test()"]  # which it would take for no function, and its locals for global
CLASSES = ("class", "struct", "union", "enum")
HEADERS = (".h", ".cuh")


def without_names(parameters):
    """'<class T, int... kRows>' and '(const View& x, float by = 1)' as '<class, int...>' and '(const View&, float)'."""
    if len(parameters) < 2:
        return parameters
    parts, depth = [""], 0
    for letter in parameters[1:-1]:
        depth += (letter in "<([{") - (letter in ">)]}")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    types = []
    for part in parts:
        part = part.split("=")[0].strip()
        named = re.fullmatch(r"(.*[\s&*>.])\w+((\[\w*\])*)", part)
        types.append((named[1] + named[2] if named and named[1].strip() not in ("const", "unsigned") else part)
                     .replace(" ", ""))
    return parameters[0] + ",".join(types) + parameters[-1]


def name_of(tag):
    """What a linker would know it by; None for what is a file's own, or no definition that it merges."""
    scope, kind, properties = tag.get("scope", ""), tag["kind"], tag.get("properties", "").split(",")
    if "__anon" in scope or "__anon" in tag["name"] or tag.get("scopeKind") == "function":
        return None
    name = f"{scope}::{tag['name']}" if scope else tag["name"]
    if kind in CLASSES:
        return name + tag.get("specialization", "")
    # A member is its class's, which is looked at.
    if tag.get("scopeKind", "namespace") != "namespace" or "static" in properties:
        return None
    if kind == "variable":  # a constant that is not inline is its file's own
        merged = "inline" in properties
    else:
        merged = ("inline" in properties or "constexpr " in tag["pattern"] or "template" in tag or
                  tag["path"].endswith(HEADERS))
    if not merged:
        return None
    return (without_names(tag.get("template", "")) + name + tag.get("specialization", "") +
            without_names(tag.get("signature", "")))


def main():
    files = sys.argv[1:] or subprocess.run(["git", "ls-files", "*.cpp", "*.h", "*.cu", "*.cuh"], cwd=ROOT, check=True,
                                           capture_output=True, text=True).stdout.splitlines()
    try:
        read = subprocess.run(CTAGS, input="\n".join(files), cwd=None if sys.argv[1:] else ROOT, capture_output=True,
                              text=True)
    except FileNotFoundError:
        sys.exit("error: no ctags found: apt-get install universal-ctags")
    if read.returncode or not read.stdout:
        print(f"error: ctags finds no definition in {len(files)} files: {read.stderr.strip()}", file=sys.stderr)
        return 2
    seen = collections.defaultdict(dict)  # name: file: the line in it
    for line in read.stdout.splitlines():
        tag = json.loads(line)
        if name := name_of(tag):
            seen[name].setdefault(tag["path"], tag["line"])
    twice = {name: places for name, places in seen.items() if len(places) > 1}
    for name, places in twice.items():
        print(f"{name} has {len(places)} definitions:", *(f"  {path}:{line}" for path, line in places.items()), sep="\n")
    if not twice:
        print(f"{len(files)} files, {len(seen)} names: each is defined once")
    return 1 if twice else 0


if __name__ == "__main__":
    sys.exit(main())
