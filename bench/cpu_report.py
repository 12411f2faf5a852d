"""Tables and pictures of what peers.py and scaling.py found, and their place in the documents."""
import json
import pathlib
import sys

import measured
import peer_works
import plots
import scaling
from measured import ROOT

sys.path.insert(0, str(ROOT / "scripts"))
from marks import write_between

BEGIN, END = "<!-- measured on CPUs, written by bench/peers.py -->", "<!-- end of what CPUs gave -->"
NOTHING = "Nothing has been measured on a CPU yet: `bench/peers.py`."
# The README's table: a work as it calls it.
MAIN = {"decode/gpt2/float32/batch:1": "decode, float32", "decode/gpt2/bfloat16/batch:1": "decode, bfloat16",
        "decode/gpt2/float16/batch:1": "decode, float16", "decode/gpt2/int8/batch:1": "decode, 8 bits",
        "decode/gpt2/int4/batch:1": "decode, 4 bits", "decode/gpt2/float32/batch:8": "decode 8 rows, float32",
        "prefill/gpt2/float32/length:512": "read a prompt of 512, float32",
        "start/gpt2/float16": "start of the process to the first token",
        "train/gpt2/float32/batch:4/length:256": "train 4 rows of 256, float32",
        "train/gpt2/bfloat16/batch:4/length:256": "train 4 rows of 256, bfloat16",
        "encode/prose": "tokenize English"}


def parts_of(folder):
    """{name of a work: its file}, in the order of the tables."""
    found = {path.stem: measured.load(path) for path in sorted(folder.glob("*.json"))}
    sweeps = [f"scaling-{name}" for name in scaling.SWEEPS]
    order = [*peer_works.works(["bf16"], False), *sweeps]
    return {name: found[name] for name in order if found.get(name)}


# ---------------------------------------------------------------- cells


def number(value):
    """Three figures: "1,240", "47.1", "0.062"."""
    return f"{value:,.0f}" if value >= 99.5 else f"{value:.1f}" if value >= 9.95 else f"{value:.3g}"


def rate(work, entries):
    """What people compare: ms where a delay is meant, else tokens or bytes a second."""
    seconds = measured.median_time(entries)
    if work.startswith(("first_token", "start", "load")):
        return f"{number(seconds * 1e3)} ms"
    items = measured.counter(entries, "items_per_second")
    if items is None:
        return f"{number(seconds * 1e3)} ms"
    return f"{number(items)} tokens/s" if "/gpt2/" in work else f"{number(items * 1e-6)} MB/s"


def percent(value):
    return "" if value is None else f"{100 * value:.0f}"


def times(found):
    """A ratio with its range; one of a single round has none."""
    if found is None:
        return ""
    return f"{found[0]:.2f}" + (f" ({found[1]:.2f}–{found[2]:.2f})" if found[1] < found[2] else "")


# ---------------------------------------------------------------- tables


def origin(context):
    versions = ", ".join(f"{name} {version}" for name, version in sorted(context["versions"].items()))
    said = [context["device"], f"commit {context['commit']}", context["date"][:10], versions]
    return ", ".join(part for part in said if part)


def origins(parts):
    """A line for each origin, with the works that have it."""
    found = {}
    for name, part in parts.items():
        found.setdefault(origin(part["context"]), []).append(name)
    return [f"{', '.join(names)}: {text}." for text, names in found.items()]


def rows_of(part):
    for work, programs in measured.grouped(part["benchmarks"]).items():
        for who, entries in programs.items():
            own = programs.get("quire")
            memory = measured.counter(entries, "peak_memory_bytes")
            share = measured.percent_of_ceiling(entries)
            memory_gave = measured.counter(entries, "bandwidth_ceiling")
            cells = [work, who, rate(work, entries), percent(measured.spread(entries)),
                     "" if memory_gave is None else f"{memory_gave * 1e-9:.0f}", "" if share is None else f"{share:.0f}", "" if memory is None else f"{memory * 1e-6:,.0f}",
                     times(measured.ratio(own, entries)) if own and who != "quire" else ""]
            yield "| " + " | ".join(cells) + " |"


def peers_table(parts):
    lines = ["| work | who | rate | rounds differ by, % | memory gave, GB/s | of the ceiling, % | peak memory, MB | quire is times as fast |",
             "|---" * 8 + "|"]
    for part in parts.values():
        lines += rows_of(part)
    return lines


def ceilings_line(parts):
    """The ceilings of quire's own runs in float32, beside which each work's own are much the same."""
    found = [e for part in parts.values() for e in part["benchmarks"] if "flops_ceiling" in e and "/float32" in e["name"]]
    if not found:
        return []
    bandwidth, flops = measured.ceilings_of(found)
    return [f"Ceilings in float32, the highest of the same runs: reading memory {bandwidth * 1e-9:.1f} GB/s, multiply-adds "
            f"{flops * 1e-9:.0f} GFLOP/s. What memory gave was read beside each program, as it changes by the second; a program "
            "is held against that. A work's bytes and flops are counted from shapes, alike for all programs. "
            "Above 100 % is what multiplies in narrower numbers than its ceiling does: integers for int8 and int4, or bfloat16."]


def left_out(parts):
    names = [f"{who} in {name}" for name, part in parts.items() for who in part["context"]["left_out"]]
    return [f"Left out, as they did not run: {', '.join(names)}."] if names else []


def sweep_table(sweep, part):
    """A row of milliseconds for each series, and one of percents of the ceiling."""
    series = {work.partition("/")[2]: entries["quire"] for work, entries in measured.grouped(part["benchmarks"]).items()}
    xs = sorted({e["x"] for entries in series.values() for e in entries})
    lines = [f"| {scaling.TITLES[sweep]} | {' | '.join(f'{x:,}' for x in xs)} |", "|---" * (len(xs) + 1) + "|"]
    for name, entries in series.items():
        known = dict(scaling.points(entries))
        cells = [number(1e3 * measured.median_time(known[x])) if x in known else "" for x in xs]
        lines.append(f"| {name}, ms | {' | '.join(cells)} |")
        ceilings = scaling.ceilings_by_x(entries)
        cells = [f"{scaling.percent_of_ceiling(known[x], ceilings[x]):.0f}" if x in known else "" for x in xs]
        lines.append(f"| of the ceiling, % | {' | '.join(cells)} |")
    return lines, series


def scaling_lines(parts):
    lines, grows = [], []
    for name, part in parts.items():
        sweep = name.partition("-")[2]
        table, series = sweep_table(sweep, part)
        lines += ["", *table]
        if sweep in scaling.SECONDS:  # how little is measured is told where it is little
            fewest = scaling.fewest_runs(part["benchmarks"])
            lines += ["", "Fewest runs of a point in a round: " + ", ".join(f"{kind} {runs}" for kind, runs in fewest.items()) + "."]
        for what, entries in series.items():
            grows += [f"- {what}, {scaling.TITLES[sweep]} {x:,} → {y:,}: time × {time:.2f}, work × {work:.2f} "
                      f"(noise {100 * noise:.0f} %)"
                      for x, y, time, work, noise in scaling.faster_than_work(entries, sweep == "threads")]
    lines += ["", "Where time grows faster than the work (bytes at the bandwidth and flops at the peak, one after the "
              "other), beyond the noise of rounds (or of runs, where there was one):" if grows else
              "Nowhere does time grow faster than the work (bytes at the bandwidth and flops at the peak, one after the "
              "other), beyond the noise of rounds (or of runs, where there was one)."]
    return lines + [""] * bool(grows) + grows


def split(parts):
    own = {name: part for name, part in parts.items() if name.startswith("scaling-")}
    return {name: part for name, part in parts.items() if name not in own}, own


def section(parts, folder=None):
    """A CPU's part of bench/README.md; pictures are shown from `folder`."""
    peers, own = split(parts)
    first = next(iter(parts.values()))["context"]
    lines = [f"### {first['cpu']}, {first['num_cpus']} threads"]
    if peers:
        lines += ["", *origins(peers), "", *peers_table(peers), "", *ceilings_line(peers), *left_out(peers)]
        lines += ["", f"![how many times as fast as its peers]({folder}/peers.svg)"] * bool(folder)
    if own:
        lines += ["", "Quire alone, as one thing grows.", "", *origins(own), *scaling_lines(own), *left_out(own)]
        lines += ["", f"![how times grow]({folder}/scaling.svg)"] * bool(folder)
    return lines


def short_table(parts):
    """The README's: the main works beside the fastest peer of each."""
    lines = ["| GPT-2 124M | Quire | fastest of the others | times as fast |", "|---|---|---|---|"]
    works = {}
    for part in parts.values():
        works |= measured.grouped(part["benchmarks"])
    for work, label in MAIN.items():
        programs = dict(works.get(work, {}))
        own = programs.pop("quire", None)
        if not own or not programs:
            continue
        who, best = min(programs.items(), key=lambda item: measured.median_time(item[1]))
        lines.append(f"| {label} | {rate(work, own)} | {who} {rate(work, best)} | {times(measured.ratio(own, best))} |")
    return lines if len(lines) > 2 else []


# ---------------------------------------------------------------- pictures and documents


def ratio_rows(parts):
    for part in parts.values():
        for work, programs in measured.grouped(part["benchmarks"]).items():
            for who, entries in programs.items():
                found = measured.ratio(programs["quire"], entries) if "quire" in programs and who != "quire" else None
                if found:
                    yield work, who, found


def draw(folder, parts):
    """peers.svg and scaling.svg, of what there is."""
    peers, own = split(parts)
    drawn = {}
    if rows := list(ratio_rows(peers)):
        drawn["peers.svg"] = plots.ranges(f"Quire beside its peers, {next(iter(peers.values()))['context']['cpu']}", rows)
    curves = []
    for name, part in own.items():
        sweep = name.partition("-")[2]
        _, series = sweep_table(sweep, part)
        curves.append((f"ms over {scaling.TITLES[sweep]}", {
            what: [(x, 1e3 * measured.median_time(e)) for x, e in scaling.points(entries)] for what, entries in series.items()}))
    if curves:
        drawn["scaling.svg"] = plots.panels(f"Quire alone, {next(iter(own.values()))['context']['cpu']}", curves)
    return {folder / name: picture for name, picture in drawn.items()}


def write_pictures(drawn, check=False):
    differ = False
    for path, picture in drawn.items():
        if path.exists() and path.read_text() == picture:
            continue
        differ = True
        print(f"{path} is not what bench/results says: bench/peers.py documents" if check else f"wrote {path}")
        if not check:
            path.write_text(picture)
    return differ


def documents(root, check):
    """bench/README.md has all CPUs, README.md the one that was measured last."""
    machines = {folder: parts_of(folder) for folder in sorted((root / "bench" / "results").glob("*")) if folder.is_dir()}
    machines = {folder: parts for folder, parts in machines.items() if parts}
    differ = False
    for folder, parts in machines.items():
        differ |= write_pictures(draw(folder, parts), check)
    text = "\n\n".join("\n".join(section(parts, f"results/{folder.name}")) for folder, parts in machines.items())
    hint = "bench/peers.py documents"
    differ |= write_between(root / "bench" / "README.md", BEGIN, END, text or NOTHING, check, hint)
    newest = max(machines.items(), key=lambda item: max(p["context"]["date"] for p in item[1].values()), default=None)
    lines = []
    if newest and (table := short_table(newest[1])):
        first = next(iter(newest[1].values()))["context"]
        lines = [*table, "", f"{first['cpu']}, {first['num_cpus']} threads: medians and ranges of rounds in which the programs took",
                 "turns. The others, memory, percents of ceilings and scaling: [`bench/README.md`](bench/README.md#on-a-cpu)."]
    differ |= write_between(root / "README.md", BEGIN, END, "\n".join(lines) or NOTHING, check, hint)
    return int(differ and check)
