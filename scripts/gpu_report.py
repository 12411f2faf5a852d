#!/usr/bin/env python3
"""Used by gpu.sh: what the steps left in WORK as one JSON and a short table, WORK's name and OUT's being the arguments.

Compares what training, generation and evaluation gave on the CPU and on the GPU, and exits 1 where they disagree. Both
compute in float32 and differ in the order of their sums: losses may differ by a thousandth, texts not at all (a greedy
choice between two tokens that lie closer than that would be a coincidence worth a look).
"""
import json
import pathlib
import sys

work, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])


def steps():
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


def losses(device):
    rows = json_lines(work / f"train-{device}" / "log.jsonl")
    return [row["loss"] for row in rows if "loss" in row]


def compared():
    """For each comparison: its name, whether both agree, and what there is to say."""
    cpu, cuda = losses("cpu"), losses("cuda")
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


def benchmarks():
    rows = []
    for path in sorted(work.glob("bench-*.json")):
        try:
            rows += json.loads(path.read_text())["benchmarks"]
        except (json.JSONDecodeError, KeyError):
            print(f"{path.name} cannot be read")
    return rows


def cell(value, scale=1.0, digits=1):
    return "" if value is None else f"{value * scale:,.{digits}f}"


def table(comparisons, entries, peers):
    lines = ["| step | state | seconds |", "|---|---|---|"]
    for step in steps():
        note = "" if step["state"] == "ok" else f": {step['note']}"
        lines.append(f"| {step['step']} | {step['state']}{note} | {step['seconds']} |")
    lines += ["", "| CPU and GPU | agree | |", "|---|---|---|"]
    lines += [f"| {name} | {'yes' if good else 'NO'} | {note} |" for name, good, note in comparisons]
    lines += ["", "| who | what | ms | tokens/s | GB/s | TFLOP/s | of the ceiling, % |", "|---" * 7 + "|"]
    for e in entries:
        percent = max(filter(None, (e.get("percent_of_bandwidth"), e.get("percent_of_flops"))), default=None)
        tokens = e.get("items_per_second") if e["name"].startswith(("train", "decode", "prefill")) else None
        cells = [cell(e["real_time"], 1e-6, 3), cell(tokens), cell(e.get("bytes_per_second"), 1e-9),
                 cell(e.get("flops_per_second"), 1e-12), cell(percent)]
        lines.append(f"| quire | {e['name']} | {' | '.join(cells)} |")
    for p in peers:
        if "what" in p:
            cells = [cell(p["ms"], 1, 3), *(cell(p.get(key)) for key in ("tokens_per_s", "gbps", "tflops", "percent"))]
            lines.append(f"| peer: {p['section']} | {p['what']}, {p['shape']} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main():
    comparisons, entries, peers = list(compared()), benchmarks(), json_lines(work / "peers.jsonl")
    card = work / "gpu.txt"
    report = {"gpu": card.read_text().strip() if card.exists() else "", "steps": steps(),
              "comparisons": [dict(name=name, agree=good, note=note) for name, good, note in comparisons],
              "benchmarks": entries, "peers": peers}
    (out / "gpu.json").write_text(json.dumps(report, indent=1) + "\n")
    text = table(comparisons, entries, peers)
    (out / "gpu.md").write_text(f"{report['gpu']}\n\n{text}")
    print(text)
    sys.exit(0 if all(good for _, good, _ in comparisons) else 1)


if __name__ == "__main__":
    main()
