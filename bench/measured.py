"""Results of peers.py and scaling.py: one JSON for each work, in Google Benchmark's form, and what is computed from it.

A file has a "context" (date, CPU, commit, versions, works and peers left out) and "benchmarks": one entry for each round,
work and program, named WORK/PROGRAM, with real_time the median of the round, in ns, and its fastest and slowest run.
Rounds have numbers ("repetition_index"), and programs took turns within each, so that entries of one number are pairs.
"""
import json
import pathlib
import re
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"


# ---------------------------------------------------------------- the machine


def cpu():
    """"AMD EPYC, family 25 model 17": names alone say little on rented machines."""
    found = {}
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        found.setdefault(key.strip(), value.strip())
    name = re.sub(r"\s+", " ", found.get("model name", "a CPU"))
    if "cpu family" in found:
        name += f", family {found['cpu family']} model {found.get('model', '?')}"
    return name, found.get("flags", "").split()


def folder_of(name):
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def commit():
    def git(*arguments):
        return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True).stdout.strip()

    dirty = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!bench/results", ":!*.md")
    return git("rev-parse", "--short=12", "HEAD") + ("+" if dirty else "")


# ---------------------------------------------------------------- entries


def entry_of(sample, index):
    """An entry from what a program found in one round: work, who, items, seconds (a list) or an entry of quire's."""
    work, who = sample["work"], sample["who"]
    entry = {"name": f"{work}/{who}", "run_name": f"{work}/{who}", "run_type": "iteration", "work": work, "who": who,
             "repetition_index": index}
    if "seconds" in sample:
        times = sorted(sample["seconds"])
        entry |= {"iterations": len(times), "real_time": statistics.median(times) * 1e9, "fastest": times[0] * 1e9,
                  "slowest": times[-1] * 1e9}
    else:
        entry |= {key: sample["entry"][key] for key in ("iterations", "real_time", "fastest", "slowest")}
        entry |= {key: value for key, value in sample["entry"].items()
                  if key.endswith(("_per_second", "_ceiling", "_bytes")) or key.startswith(("percent_", "bandwidth_"))}
    entry |= {"cpu_time": entry["real_time"], "time_unit": "ns"}
    if sample.get("items"):
        entry["items_per_second"] = sample["items"] / entry["real_time"] * 1e9
    if "reading" in sample and "bandwidth_lowest" not in entry:  # quire's own is measured between its passes
        entry["bandwidth_ceiling"] = sample["reading"]
    if sample.get("peak_memory_bytes"):
        entry["peak_memory_bytes"] = sample["peak_memory_bytes"]
    return entry


def ceilings_of(entries):
    """Bytes/s and flops/s: the highest that was measured beside these entries; None where nothing was held against any."""
    return tuple(max((e[key] for e in entries if key in e), default=None) for key in ("bandwidth_ceiling", "flops_ceiling"))


def with_ceilings(entries):
    """Gives all entries of a file their percents of ceilings: what memory gave beside the entry itself, as that changes by
    the second where cores are shared, and the most flops of all, which others only lower. The peers' bytes and flops are
    those of quire's entry of the same work and round: they are the work's, whoever does it."""
    bandwidth, flops = ceilings_of(entries)
    own = {(e["work"], e["repetition_index"]): e for e in entries if e["who"] == "quire"}
    for entry in entries:
        quire = own.get((entry["work"], entry["repetition_index"]))
        if quire is None:
            continue
        for rate, percent, ceiling in (
                ("bytes_per_second", "percent_of_bandwidth", entry.get("bandwidth_ceiling", bandwidth)),
                ("flops_per_second", "percent_of_flops", flops)):
            if rate in quire and ceiling:
                entry[percent] = 100 * quire[rate] * quire["real_time"] / entry["real_time"] / ceiling
    return entries


def context(threads, **more):
    name, _ = cpu()
    return {"date": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "cpu": name, "num_cpus": threads, "executable": "bench/peers.py",
            "library_build_type": "release", "commit": commit(), **more}


def save(path, context, entries):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"context": context, "benchmarks": entries}, indent=1) + "\n")


def load(path):
    """A file, or None where it is not there or not one of these."""
    found = json.loads(path.read_text()) if path.exists() else {}
    return found if "cpu" in found.get("context", {}) else None


def earlier(path):
    """Entries, what was left out, and versions of a file that more is to be added to; of another commit it is an error."""
    found = load(path)
    if not found:
        return [], {}, {}
    if found["context"]["commit"] != commit():
        sys.exit(f"error: {path} is of another commit: without --add it is replaced")
    return found["benchmarks"], found["context"]["left_out"], found["context"]["versions"]


def grouped(entries):
    """{work: {who: its entries}} in the order in which they came."""
    found = {}
    for entry in entries:
        found.setdefault(entry["work"], {}).setdefault(entry["who"], []).append(entry)
    return found


# ---------------------------------------------------------------- arithmetic


EVEN = 1.25  # how far apart what memory gave may lie in a round whose programs are compared


def unevenness(readings):
    """The highest of what memory gave to the lowest; 1 of none."""
    return max(readings) / min(readings) if readings else 1.0


def median_time(entries):
    """Of the rounds' medians, in seconds."""
    return statistics.median(e["real_time"] for e in entries) * 1e-9


def spread(entries):
    """How far the rounds' medians lie apart, as a share of their median; None of one round."""
    times = [e["real_time"] for e in entries]
    return (max(times) - min(times)) / statistics.median(times) if len(times) > 1 else None


def ratio(own, other):
    """How many times as fast `own` is as `other`: the median over rounds that both ran, the lowest and the highest."""
    others = {e["repetition_index"]: e["real_time"] for e in other}
    found = [others[e["repetition_index"]] / e["real_time"] for e in own if e["repetition_index"] in others]
    return (statistics.median(found), min(found), max(found)) if found else None


def percent_of_ceiling(entries):
    """Of the ceiling that the work is nearer to; the median over rounds."""
    found = [max(filter(None, (e.get("percent_of_bandwidth"), e.get("percent_of_flops"))), default=None) for e in entries]
    found = [value for value in found if value is not None]
    return statistics.median(found) if found else None


def counter(entries, name):
    found = [e[name] for e in entries if name in e]
    return statistics.median(found) if found else None
