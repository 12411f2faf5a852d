#!/usr/bin/env python3
"""What a run of gpu.sh found: as one JSON and a short table, and as part of the project.

    gpu_report.py report WORK OUT   used by gpu.sh: what the steps left in WORK becomes OUT/gpu.json and OUT/gpu.md
    gpu_report.py keep OUT/gpu.json [--root DIR]   writes bench/results/CARD/*.json, and the documents' tables from them
    gpu_report.py documents [--check] [--root DIR]   those tables alone; --check exits 1 where they are not what the
                                                     results say

`report` compares what training, generation and evaluation gave on the CPU and on the GPU, and exits 1 where they
disagree. Both compute in float32 and differ in the order of their sums: losses may differ by a thousandth, texts not at
all (a greedy choice between two tokens that lie closer than that would be a coincidence worth a look).

A file of results names the card, the driver, the commit and the date, and holds one part: tests.json (steps,
comparisons, cases that failed), models.json (training, prompts, decoding), kernels.json, peers.json. What a later run
measured replaces its part alone; git has the earlier ones.
"""
import argparse
import json
import pathlib
import re
import subprocess
import sys
import time

from marks import write_between

ROOT = pathlib.Path(__file__).resolve().parent.parent
NOTHING = {
    "bench/README.md": "Nothing has been measured on a GPU yet: no card was at hand.",
    "kernels/cuda/README.md": "**No figure here has been measured on a GPU yet.**",
}
BEGIN, END = "<!-- measured on cards, written by scripts/gpu_report.py -->", "<!-- end of what was measured -->"


# ---------------------------------------------------------------- what a run left


def steps(work):
    path = work / "steps.tsv"
    lines = path.read_text().splitlines() if path.exists() else []
    return [dict(zip(("step", "state", "seconds", "note"), line.split("\t"))) for line in lines]


def json_lines(path):
    rows = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            pass  # notes, or a line cut off by a time limit
    return rows


def losses(work, device):
    rows = json_lines(work / f"train-{device}" / "log.jsonl")
    return [row["loss"] for row in rows if "loss" in row]


def compared(work):
    """For each comparison: its name, whether both agree, and what there is to say."""
    cpu, cuda = losses(work, "cpu"), losses(work, "cuda")
    if cpu or cuda:
        worst = max((abs(a - b) / abs(a) for a, b in zip(cpu, cuda)), default=float("inf"))
        note = f"{len(cuda)} steps, largest difference {worst:.1e}"
        yield "training losses", len(cpu) == len(cuda) and worst <= 1e-3, note
    texts = [work / f"generate-{device}.log" for device in ("cpu", "cuda")]
    if all(path.exists() for path in texts):
        cpu, cuda = (path.read_text() for path in texts)
        same = next((i for i, (a, b) in enumerate(zip(cpu, cuda)) if a != b), min(len(cpu), len(cuda)))
        note = f"{len(cpu)} characters" if cpu == cuda else f"the same up to character {same}"
        yield "greedy texts", cpu == cuda and cpu != "", note
    results = [json_lines(work / f"eval-{device}.log") for device in ("cpu", "cuda")]
    if all(results):
        cpu, cuda = (rows[-1]["loss"] for rows in results)
        yield "evaluation loss", abs(cpu - cuda) <= 1e-3 * abs(cpu), f"{cpu} and {cuda}"


def benchmarks(work):
    """All entries, and under which shapes the kernels were timed."""
    rows, context = [], {}
    for path in sorted(work.glob("bench-*.json")):
        try:
            written = json.loads(path.read_text())
            rows += written["benchmarks"]
            if path.stem == "bench-kernels":
                context = written["context"]
        except (json.JSONDecodeError, KeyError):
            print(f"{path.name} cannot be read")
    return rows, context


def text_of(path):
    return path.read_text().strip() if path.exists() else ""


def report(work, out):
    card = text_of(work / "gpu.txt")
    name, driver = ([part.strip() for part in card.splitlines()[0].split(",")] + ["", ""])[:2] if card else ("", "")
    entries, context = benchmarks(work)
    found = {"card": name, "driver": driver, "commit": text_of(work / "gpu" / "commit"),
             "date": time.strftime("%Y-%m-%d"), "gpu": card, "steps": steps(work),
             "tests": [json.loads(path.read_text()) for path in sorted(work.glob("test_*.json"))],
             "comparisons": [dict(name=name, agree=good, note=note) for name, good, note in compared(work)],
             "benchmarks": entries, "kernels_context": context, "peers": json_lines(work / "peers.jsonl")}
    (out / "gpu.json").write_text(json.dumps(found, indent=1) + "\n")
    text = f"{card}\n\n" + "\n".join(step_table(found) + tests_lines(found) + [""] + rates(
        found["benchmarks"], found["peers"])) + "\n"
    (out / "gpu.md").write_text(text)
    print(text)
    return 0 if all(c["agree"] for c in found["comparisons"]) else 1


# ---------------------------------------------------------------- tables


def step_table(found):
    lines = ["| step | state | seconds |", "|---|---|---|"]
    for step in found["steps"]:
        note = "" if step["state"] == "ok" else f": {step['note']}"
        lines.append(f"| {step['step']} | {step['state']}{note} | {step['seconds']} |")
    if found["comparisons"]:
        lines += ["", "| CPU and GPU | agree | |", "|---|---|---|"]
        lines += [f"| {c['name']} | {'yes' if c['agree'] else 'NO'} | {c['note']} |" for c in found["comparisons"]]
    return lines


def tests_lines(found):
    """For each program how many cases pass; each that does not, and what broke the card."""
    lines = []
    for tests in found["tests"]:
        lines += ["", f"{tests['program']}: {tests['passed']} of {tests['cases']} cases pass."]
        for group in tests["groups"]:
            if "broken_by" in group:
                lines.append(f"- The card was broken by \"{group['broken_by']}\" ({group['file']}).")
            lines += [f"- \"{f['case']}\" ({group['file']}): {f['first']}; alone: {f.get('alone', 'not run')}"
                      for f in group["failed"]]
    return lines


def cell(value, scale=1.0, digits=1):
    return "" if value is None else f"{value * scale:,.{digits}f}"


def is_model(entry):
    return entry["name"].startswith(("train", "decode", "prefill", "first"))


def rates(entries, peers):
    lines = ["| who | what | ms | tokens/s | GB/s | TFLOP/s | of the ceiling, % |", "|---" * 7 + "|"]
    for e in entries:
        percent = max(filter(None, (e.get("percent_of_bandwidth"), e.get("percent_of_flops"))), default=None)
        cells = [cell(e["real_time"], 1e-6, 3), cell(e.get("items_per_second") if is_model(e) else None),
                 cell(e.get("bytes_per_second"), 1e-9), cell(e.get("flops_per_second"), 1e-12), cell(percent)]
        lines.append(f"| quire | {e['name']} | {' | '.join(cells)} |")
    for p in peers:
        if "what" in p:
            cells = [cell(p["ms"], 1, 3), *(cell(p.get(key)) for key in ("tokens_per_s", "gbps", "tflops", "percent"))]
            lines.append(f"| peer: {p['section']} | {p['what']}, {p['shape']} | {' | '.join(cells)} |")
    return lines


# ---------------------------------------------------------------- results that stay


def folder_of(card):
    return re.sub(r"[^a-z0-9]+", "-", card.lower()).strip("-")


def keep(path, root):
    found = json.loads(path.read_text())
    if not found["card"] or not found["commit"]:
        sys.exit(f"error: {path} names no card or no commit: it is not from a run of gpu.sh on a pack")
    parts = {
        "tests": {key: found[key] for key in ("gpu", "steps", "comparisons", "tests")} if found["steps"] else {},
        "models": {"benchmarks": [e for e in found["benchmarks"] if is_model(e)]},
        "kernels": {"context": found["kernels_context"],
                    "benchmarks": [e for e in found["benchmarks"] if not is_model(e)]},
        "peers": {"peers": found["peers"]},
    }
    folder = root / "bench" / "results" / folder_of(found["card"])
    folder.mkdir(parents=True, exist_ok=True)
    for name, part in parts.items():
        if not any(part.values()):
            continue
        origin = {key: found[key] for key in ("card", "driver", "commit", "date")}
        (folder / f"{name}.json").write_text(json.dumps({**origin, **part}, indent=1) + "\n")
        print(f"wrote {folder / name}.json")
    if root == ROOT:  # what was expected of a step and of a token stands beside what was measured
        for script in ("step_model.py", "decode_plan.py"):
            subprocess.run([sys.executable, str(ROOT / "scripts" / script), "write"], check=True)
    return documents(root, check=False)


def origin_of(part):
    return f"driver {part['driver']}, commit {part['commit']}, {part['date']}"


def of_all(card):
    """bench/README.md: a card's tests, models, peers; the kernels are in their own document."""
    lines = [f"### {next(iter(card.values()))['card']}"]
    if "tests" in card:
        lines += ["", f"Tests and comparisons with the CPU ({origin_of(card['tests'])}):", ""]
        lines += step_table(card["tests"]) + tests_lines(card["tests"])
    for name, what in (("models", "Quire, whole models"), ("peers", "Peers on the same card")):
        if name in card:
            lines += ["", f"{what} ({origin_of(card[name])}):", ""]
            lines += rates(card[name].get("benchmarks", []), card[name].get("peers", []))
    if "kernels" in card:
        lines += ["", "Single kernels: `kernels/cuda/README.md`."]
    return lines


def of_kernels(card):
    if "kernels" not in card:
        return []
    part = card["kernels"]
    return [f"Measured by `scripts/gpu.sh` on {part['card']} ({origin_of(part)}):", "", *rates(part["benchmarks"], [])]


def documents(root, check):
    cards = []
    for folder in sorted((root / "bench" / "results").glob("*")):
        parts = {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}
        parts = {name: part for name, part in parts.items() if "card" in part}  # a CPU's are bench/peers.py's
        if parts:
            cards.append(parts)
    differ = False
    for name, of_card in (("bench/README.md", of_all), ("kernels/cuda/README.md", of_kernels)):
        blocks = ["\n".join(block) for block in map(of_card, cards) if block]
        path = root / name
        text = "\n\n".join(blocks) or NOTHING[name]
        differ |= write_between(path, BEGIN, END, text, check, "scripts/gpu_report.py documents")
    return int(differ and check)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    actions = parser.add_subparsers(dest="action", required=True)
    action = actions.add_parser("report")
    action.add_argument("work", type=pathlib.Path)
    action.add_argument("out", type=pathlib.Path)
    action = actions.add_parser("keep")
    action.add_argument("file", type=pathlib.Path)
    action.add_argument("--root", type=pathlib.Path, default=ROOT)
    action = actions.add_parser("documents")
    action.add_argument("--check", action="store_true")
    action.add_argument("--root", type=pathlib.Path, default=ROOT)
    args = parser.parse_args()
    if args.action == "report":
        sys.exit(report(args.work, args.out))
    sys.exit(keep(args.file, args.root) if args.action == "keep" else documents(args.root, args.check))


if __name__ == "__main__":
    main()
