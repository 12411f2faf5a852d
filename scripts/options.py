#!/usr/bin/env python3
"""docs/options.md: every option of every command, as `quire COMMAND --help` has them.

    scripts/options.py write PROGRAM      writes it
    scripts/options.py check PROGRAM      exits 1 where it is not what the program says

Where a help breaks its lines makes no difference.
"""
import difflib
import itertools
import os
import re
import subprocess
import sys
from pathlib import Path

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "options.md"
HEAD = """# Options

Written by `scripts/options.py write build/bin/quire` from what `quire COMMAND --help` prints; a test holds it
against the program.

`-` and `_` are alike in names, `--name value` and `--name=value` too; a flag may be followed by `true` or `false`,
and `--no-NAME` turns it off. Every command takes `--config-file FILE`, options as a JSON object or TOML's
`name = value` lines, of which those that are typed win, and `-h`, `--help`.
"""
# "  -m, --model DIR   a folder" or its first half, the text coming in the next line.
OPTION = re.compile(r"^ {1,6}(?:-(\w), )?--([a-z0-9][a-z0-9-]*)(?: (\S.*?))?(?: {2,}(\S.*))?$")
GROUP = re.compile(r"^ (\S.*) options:$")
EVERYWHERE = {"help", "config-file"}


def told(program, *arguments):
    # A width of the reader's own terminal must not matter.
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    run = subprocess.run([program, *arguments, "--help"], check=True, text=True, stdout=subprocess.PIPE,
                         stdin=subprocess.DEVNULL, env=environment)
    return run.stdout.splitlines()


def commands(program):
    """Names as they are typed, those of a family one by one."""
    names = []
    lines = told(program)
    start = lines.index("Commands:") + 1
    for line in lines[start : lines.index("", start)]:
        name = line.split()[0]
        family = [re.match(rf"  quire {name} ([a-z]+)  ", one) for one in told(program, name)]
        actions = [found.group(1) for found in family if found]
        names += [f"{name} {action}" for action in actions] or [name]
    return names


def options_of(lines):
    """Pairs of a group and its options: short name, name, value, text."""
    groups = []
    for line in lines:
        if group := GROUP.match(line):
            groups.append((group.group(1), []))
        elif line == "Examples:":
            break
        elif groups and (option := OPTION.match(line)):
            groups[-1][1].append([part or "" for part in option.groups()])
        elif groups and line.strip():
            groups[-1][1][-1][3] += " " + line
    return [(title, [(*names, " ".join(text.split())) for *names, text in options]) for title, options in groups]


def cell(text):
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*").replace("_", "\\_")


def code(text):
    return "`" + text.replace("|", "\\|") + "`" if text else ""


def row(short, name, value, text):
    default = ""
    if found := re.fullmatch(r"(.*?) ?\[([^\[\]]*)\]", text):
        text, default = found.groups()
    aliases = [f"-{short}"] if short else []
    if found := re.fullmatch(r"(.*) \(or (--[a-z0-9-]+(?:, --[a-z0-9-]+)*)\)", text):
        text = found.group(1)
        aliases += found.group(2).split(", ")
    typed = f"--{name} {value}".strip()
    return f"| {code(typed)} | {', '.join(map(code, aliases))} | {cell(text)} | {code(default)} |"


def document(program):
    parts = [HEAD]
    for command in commands(program):
        lines = told(program, *command.split())
        start = lines.index("Usage:")
        usage = " ".join(" ".join(lines[start + 1 : lines.index("", start)]).split())
        about = " ".join(itertools.takewhile(lambda line: line and line[0] != " ", lines))
        if about.endswith(":"):  # an example follows, which has a form that a paragraph would lose
            about = about[: about.rindex(". ") + 1]
        parts += [f"\n## quire {command}\n", cell(about), f"\n    {usage}\n"]
        for title, options in options_of(lines):
            rows = [row(*option) for option in options if option[1] not in EVERYWHERE]
            if rows:
                parts += [f"**{title}**\n", "| option | or | | default |", "|---|---|---|---|", *rows, ""]
    return "\n".join(parts).rstrip() + "\n"


def main():
    if len(sys.argv) != 3 or sys.argv[1] not in ("write", "check"):
        sys.exit(__doc__)
    text = document(sys.argv[2])
    if sys.argv[1] == "write":
        DOCUMENT.write_text(text, encoding="utf-8")
        return
    kept = DOCUMENT.read_text(encoding="utf-8")
    if kept == text:
        return
    sys.stdout.writelines(difflib.unified_diff(kept.splitlines(True), text.splitlines(True), "docs/options.md",
                                               "quire COMMAND --help", n=0))
    sys.exit(f"{DOCUMENT} is not what the program says: scripts/options.py write {sys.argv[2]}")


main()
