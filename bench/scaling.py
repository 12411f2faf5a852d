"""How Quire's own times grow with threads, context, rows and model, beside how the work grows.

Work is counted as the seconds that its bytes and flops would take, one after the other, at the ceilings of the same
runs: bytes / bandwidth + flops / peak. Where time grows more than that from one point to the next, beyond what the two
points' rounds differ among themselves, the tables say so.
"""
import pathlib
import statistics

import measured
import peer_works

PARAMETERS = {"gpt2": 124e6, "gpt2-medium": 355e6, "gpt2-large": 774e6}
CONTEXTS = [64, 128, 256, 512, 1024]
NEW = 32  # tokens decoded in a pass


def available_memory():
    for line in pathlib.Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable"):
            return int(line.split()[1]) * 1024
    return 0


def generate(dtype, prompt=32, batch=1, prefill=1, threads=None, model=None):
    """Of the file that peers read, too, where weights lie as `quire generate` has them; of random ones where `model` says
    how large."""
    of = ["--config", model, "--dtype", dtype] if model else ["--model", lambda place: peer_works.there(place.model(dtype))]
    return {"arguments": ["generate", *of, "--batch-size", batch, "--prompt-tokens", prompt, "--max-new-tokens", NEW,
                          "--prefill", prefill], "threads": threads}


def train(dtype, batch, length, threads=None, model="gpt2"):
    return {"arguments": ["train", "--config", model, "--batch-size", batch, "--block-size", length,
                          *["--bf16"] * (dtype == "bfloat16")], "threads": threads}


# Of a sweep: what it varies, its points (x, {"arguments", "threads"}, {kind of entry: series}).
def threads(most, dtypes):
    counts = sorted({1, *range(2, most + 1, max(1, most // 8)), most})
    for dtype in dtypes:
        for n in counts:
            yield n, generate(dtype, prefill=512, threads=n), {"decode": f"decode/{dtype}", "prefill": f"prefill 512/{dtype}"}
            yield n, train(dtype, 4, 64, threads=n), {"train": f"train 4 x 64/{dtype}"}


def contexts(most, dtypes):
    for dtype in dtypes:
        for c in CONTEXTS:
            yield c, generate(dtype, prompt=c - NEW), {"decode": f"decode/{dtype}"}


def prompts(most, dtypes):
    for dtype in dtypes:
        for c in CONTEXTS:
            yield c, generate(dtype, prefill=c), {"prefill": f"prompt/{dtype}"}


def batches(most, dtypes):
    for dtype in dtypes:
        for rows in (1, 2, 4, 8, 16, 32):
            yield rows, generate(dtype, batch=rows), {"decode": f"decode/{dtype}"}


def lengths(most, dtypes):
    for dtype in dtypes:
        for length in CONTEXTS:
            yield length, train(dtype, 1, length), {"train": f"train, 1 row/{dtype}"}


def sizes(most, dtypes):
    for dtype in dtypes:
        for model, parameters in PARAMETERS.items():
            x = round(parameters / 1e6)
            yield x, generate(dtype, prefill=128, model=model), {"decode": f"decode/{dtype}", "prefill": f"prompt 128/{dtype}"}
            if 20 * parameters + 1e9 < available_memory():  # parameters, gradients, two moments, activations
                yield x, train(dtype, 1, 128, model=model), {"train": f"train 1 x 128/{dtype}"}


SWEEPS = {"threads": threads, "contexts": contexts, "prompts": prompts, "batches": batches, "lengths": lengths,
          "sizes": sizes}
TITLES = {"threads": "threads", "contexts": "tokens of context", "prompts": "tokens of a prompt",
          "batches": "rows decoded together", "lengths": "tokens of a training row", "sizes": "million parameters"}


SECONDS = {"sizes": 0.3}  # at most, for an entry of a round: a step of 774M takes 4 s, and three are the fewest
DTYPES = ["float32", "bfloat16"]
KINDS = ["generate", "train"]


def fewest_runs(entries):
    """{kind of work: runs of the point and round that has the fewest}."""
    found = {}
    for entry in entries:
        kind = entry["work"].split("/")[1].split()[0].rstrip(",")
        found[kind] = min(entry["iterations"], found.get(kind, entry["iterations"]))
    return found


def run(o, note):
    _, flags = measured.cpu()
    dtypes = [dtype for dtype in o.dtypes if dtype == "float32" or "avx512_bf16" in flags]
    for sweep in o.sweeps:
        place = peer_works.Place(quire=o.binary, python=None, work=o.work, vocabulary=None, threads=o.threads,
                                 seconds=min(o.seconds, SECONDS.get(sweep, 1)))
        path = o.results / f"scaling-{sweep}.json"
        found, left_out, _ = measured.earlier(path) if o.add else ([], {}, {})
        points = [(x, point, series) for x, point, series in SWEEPS[sweep](o.threads, dtypes)
                  if (not o.points or x in o.points) and point["arguments"][0] in o.kinds]
        if not points:
            note(f"{sweep}: it has none of the points")
        for index in range(o.rounds):
            for x, point, series in points:
                label = f"{', '.join(series.values())} at {x}"
                note(f"{sweep}, round {index + 1} of {o.rounds}: {label}")
                try:
                    arguments = [a(place) if callable(a) else a for a in point["arguments"]]
                    entries = peer_works.quire_entries(place, *arguments, "--seconds", place.seconds, "--threads",
                                                       point["threads"] or o.threads)
                except peer_works.LeftOut as reason:
                    note(f"  left out: {reason}")
                    left_out[label] = str(reason)
                    continue
                for entry in entries:
                    kind = entry["name"].partition("/")[0]
                    if kind in series:
                        name = f"{sweep}/{series[kind]}/{x}"
                        sample = {"work": f"{sweep}/{series[kind]}", "who": "quire", "entry": entry}
                        before = sum(e["name"] == name for e in found)
                        found.append(measured.entry_of(sample, before) | {"x": x, "name": name, "run_name": name})
                measured.save(path, measured.context(o.threads, work=f"scaling-{sweep}", versions={}, left_out=left_out,
                                                     device=place.device, fewest_runs=fewest_runs(found)), found)


# ---------------------------------------------------------------- how it grows


def points(entries):
    """[(x, its entries of all rounds)], by x."""
    found = {}
    for entry in entries:
        found.setdefault(entry["x"], []).append(entry)
    return sorted(found.items())


def moved_and_done(entries):
    """Bytes and flops of one run at a point."""
    def of(rate):
        return statistics.median(e.get(rate, 0) * e["real_time"] * 1e-9 for e in entries)

    return of("bytes_per_second"), of("flops_per_second")


def work_seconds(entries, ceilings):
    """What bytes and flops of a point would take at `ceilings` (bytes/s, flops/s)."""
    return sum(amount / ceiling for amount, ceiling in zip(moved_and_done(entries), ceilings))


def percent_of_ceiling(entries, ceilings):
    """Of the ceiling that the point is nearer to."""
    least = max(amount / ceiling for amount, ceiling in zip(moved_and_done(entries), ceilings))
    return 100 * least / measured.median_time(entries)


def ceilings_of_rounds(entries):
    """What memory gave beside a point's own runs, as it changes from one to the next, and the most flops; medians of rounds."""
    return tuple(statistics.median(e[key] for e in entries) for key in ("bandwidth_ceiling", "flops_ceiling"))


def ceilings_by_x(entries):
    return {x: ceilings_of_rounds(at) for x, at in points(entries)}


def noise(entries):
    """How far a point's rounds differ; of one round, how far its median lies above its fastest run."""
    found = measured.spread(entries)
    return found if found is not None else 1 - entries[0]["fastest"] / entries[0]["real_time"]


def growth(entries, own_ceilings):
    """For each step from one point to the next: (x, next x, growth of time, of work, noise). Work is counted at one rate for
    all points, the highest of the series, but where threads vary: there each has its own."""
    found, ceilings, known = [], ceilings_by_x(entries), points(entries)
    highest = measured.ceilings_of(entries)
    for (x, before), (y, after) in zip(known, known[1:]):
        at_x, at_y = (ceilings[x], ceilings[y]) if own_ceilings else (highest, highest)
        work = work_seconds(after, at_y) / work_seconds(before, at_x)
        time = measured.median_time(after) / measured.median_time(before)
        found.append((x, y, time, work, noise(before) + noise(after)))
    return found


def faster_than_work(entries, own_ceilings):
    return [step for step in growth(entries, own_ceilings) if step[2] > step[3] * (1 + step[4])]
