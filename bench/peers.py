#!/usr/bin/env python3
"""Quire beside its peers on this CPU: transformers and torch, llama.cpp, tiktoken, Hugging Face tokenizers.

    peers.py setup     the peers into a virtual environment, a random GPT-2 124M and its GGUF files (by run, too)
    peers.py run       measures: works and programs in turn, round by round; one JSON a work, tables, pictures
    peers.py scaling   quire alone: threads, contexts, batches, sizes (scaling.py)
    peers.py keep DIR  puts results of run and scaling into bench/results/CPU and into the documents
    peers.py documents [--check]   the documents' tables alone; --check exits 1 where they say something else

Programs take turns within a round, so that whatever else the machine does meets all of them; ratios are those of
rounds. Shared machines give a program twice the memory bandwidth of the one before it, for some seconds: it is measured
between programs, and a round in which it changed is run again. The same model (GPT-2 124M, random weights: speed does not depend on them), in generation the same file, the same
lengths, all cores. A work or a program that cannot run is left out by name. Run it on a quiet machine.
"""
import argparse
import os
import pathlib
import random
import shutil
import subprocess
import sys
import venv

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import cpu_report
import measured
import peer_works
import scaling
from measured import ROOT

PACKAGES = {"torch": "torch", "transformers": "transformers", "tiktoken": "tiktoken", "tokenizers": "tokenizers",
            "numpy": "numpy", "setuptools": "setuptools", "ninja": "ninja", "llama-cpp-python": "llama_cpp"}  # and modules
MEMORY_BOUND = ("generate", "train", "start")  # works whose speed is memory's, in part at least
BUILT = ("llama-cpp-python",)
BUILD = {"CMAKE_ARGS": "-DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON -DLLAVA_BUILD=OFF"}


def note(text):
    print(text, file=sys.stderr, flush=True)


# ---------------------------------------------------------------- what is measured with


def missing(python):
    code = "import importlib.util, sys; print(*(m for m in sys.argv[1:] if not importlib.util.find_spec(m)))"
    lacks = subprocess.run([str(python), "-c", code, *PACKAGES.values()], capture_output=True, text=True).stdout.split()
    return [package for package, module in PACKAGES.items() if module in lacks]


def make_environment(folder, complete):
    """pip's own options (an index with CPU wheels of torch, say) are read from its environment variables, as always. One
    that is there is left as it is, unless it is to be made complete."""
    python = folder / "bin" / "python"
    if python.exists() and not complete:
        return
    if not python.exists():
        venv.create(folder, with_pip=True)
    for package in missing(python):  # one by one: what does not install is left out, the others are there
        note(f"installing {package} into {folder}" + (", where it is built" if package in BUILT else ""))
        done = subprocess.run([str(python), "-m", "pip", "install", "--quiet", package], env=os.environ | BUILD)
        if done.returncode:
            note(f"  left out: {package} does not install")


def mixed_text(size):
    """Code, numbers, accents, Chinese, Japanese, Korean, Cyrillic, emoji: what is hard for a splitter."""
    draw = random.Random(1)
    code = [line for path in sorted((ROOT / "bench").glob("*.cpp")) for line in path.read_text().splitlines(True)]
    accents = "déjà café, naïve Straße größer señor l’été übermut façade ångström čeština żółć İstanbul œuvre. Øresund"

    def script(first, last, most):
        return "".join(chr(draw.randint(first, last)) for _ in range(draw.randint(3, most)))

    makers = [lambda: draw.choice(code), lambda: draw.choice(code), lambda: draw.choice(code),
              lambda: f"{draw.randint(0, 3000)}-{draw.randint(1, 12)} {draw.random() * 1000:.3f} {draw.getrandbits(48):#x}\n",
              lambda: " ".join(draw.choices(accents.split(), k=6)) + " ",
              lambda: script(0x1F600, 0x1F64F, 4) + " ", lambda: script(0x4E00, 0x9FA5, 30) + "。",
              lambda: script(0x3041, 0x30F6, 12) + script(0xAC00, 0xD7A3, 8) + " ", lambda: script(0x430, 0x44F, 10) + " "]
    parts, length = [], 0
    while length < size:
        parts.append(draw.choice(makers)())
        length += len(parts[-1].encode())
    return "".join(parts)


def make_models(place):
    """One step of training on a line gives a whole folder of random weights; convert the GGUF files."""
    folder = place.folder
    few = place.work / "few.txt"
    few.write_text("A line to make one step on, so that the folder of a whole model comes of it.\n" * 20)
    if not (folder / "model.safetensors").exists():
        note(f"making a random GPT-2 124M in {folder}")
        peer_works.output_of([place.quire, "train", "--config", "gpt2", "--tokenizer", place.vocabulary, "--data", few,
                              "--block-size", 16, "--batch-size", 1, "--max-steps", 1, "--save-steps", 0, "--seed", 1,
                              "--quiet", "--output-dir", folder, "--overwrite-output-dir"], place)
    for dtype in peer_works.DTYPES:
        if not place.model(dtype).exists():
            note(f"converting it to {place.model(dtype).name}")
            peer_works.output_of([place.quire, "convert", folder, place.model(dtype), "--dtype", dtype, "--quiet"], place)


def setup(o, complete=False):
    o.work.mkdir(parents=True, exist_ok=True)
    make_environment(o.environment, complete)
    place = peer_works.Place(quire=o.binary, python=o.environment / "bin" / "python", work=o.work,
                             vocabulary=o.vocabulary, threads=o.threads, seconds=o.seconds)
    prose = o.prose if o.prose.exists() else ROOT / "samples" / "quotes.csv"
    place.text("prose").write_bytes(prose.read_bytes())
    place.text("mix").write_text(mixed_text(1_000_000), encoding="utf-8")
    if not (o.vocabulary / "merges.txt").exists():
        note(f"left out: generate, tokenizer, file, start: no vocab.json and merges.txt of GPT-2 in {o.vocabulary}")
    else:
        try:
            make_models(place)
        except peer_works.LeftOut as reason:
            note(f"left out: what needs the model's files: {reason}")
    return place


# ---------------------------------------------------------------- measuring


def one_round(name, runners, place, o, left_out):
    """Samples of all runners, in turn, and what memory gave before the first of them and behind each."""
    samples = []
    readings = [peer_works.reading(place)] if name.startswith(MEMORY_BOUND) else []
    for runner in runners:
        if runner.who.split(",")[0] not in ["quire", *o.peers] or runner.label() in left_out:
            continue
        note(f"  {runner.label()}")
        try:
            found = runner.run(place)
        except peer_works.LeftOut as reason:
            note(f"  left out: {reason}")
            left_out[runner.label()] = str(reason)
            continue
        if readings:
            readings.append(peer_works.reading(place))
            found = [sample | {"reading": (readings[-2] + readings[-1]) / 2} for sample in found]
        samples += found
    return samples, readings


def even_round(name, runners, place, o, left_out):
    """A round again while memory gives one program more than the other, a few times; then the evenest."""
    rounds = []
    for _ in range(o.tries):
        rounds.append(one_round(name, runners, place, o, left_out))
        if measured.unevenness(rounds[-1][1]) <= measured.EVEN:
            break
        note(f"  memory gave {min(rounds[-1][1]) * 1e-9:.0f} to {max(rounds[-1][1]) * 1e-9:.0f} GB/s meanwhile")
    return min(rounds, key=lambda one: measured.unevenness(one[1]))


def measure(name, runners, place, o, path):
    """One work: rounds of all its runners, saved after each."""
    found, left_out, versions = measured.earlier(path) if o.add else ([], {}, {})
    first = 1 + max((e["repetition_index"] for e in found), default=-1)
    place.versions |= versions
    for index in range(first, first + o.rounds):
        note(f"{name}, round {index + 1 - first} of {o.rounds}")
        samples, readings = even_round(name, runners, place, o, left_out)
        found += [measured.entry_of(sample, index) for sample in samples]
        for entry in found:
            entry["repetitions"] = index + 1
            if entry["repetition_index"] == index and readings:
                entry["readings_apart"] = measured.unevenness(readings)
        if found:
            measured.save(path, measured.context(o.threads, work=name, versions=place.versions, left_out=left_out,
                                                 device=place.device), measured.with_ceilings(found))


def run(o):
    place = setup(o)
    _, flags = measured.cpu()
    known = peer_works.works(flags, o.compile)
    chosen = [name for name in known if any(name.startswith(work) for work in o.works)] if o.works else list(known)
    if not chosen:
        sys.exit(f"error: no work begins with {' or '.join(o.works)}; there are {', '.join(known)}")
    for name in chosen:
        measure(name, known[name], place, o, o.results / f"{name}.json")
    show(o.results)


def show(results):
    parts = cpu_report.parts_of(results)
    cpu_report.write_pictures(cpu_report.draw(results, parts))
    print("\n".join(cpu_report.section(parts)))


def keep(o):
    parts = cpu_report.parts_of(o.folder)
    if not parts:
        sys.exit(f"error: {o.folder} holds no results of this script")
    to = o.root / "bench" / "results" / measured.folder_of(next(iter(parts.values()))["context"]["cpu"])
    to.mkdir(parents=True, exist_ok=True)
    for name in parts:
        if (o.folder / f"{name}.json").resolve() != (to / f"{name}.json").resolve():
            shutil.copy(o.folder / f"{name}.json", to)
            print(f"wrote {to / name}.json")
    return cpu_report.documents(o.root, check=False)


# ---------------------------------------------------------------- options


def options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    actions = parser.add_subparsers(dest="action", required=True)
    fixtures = pathlib.Path(os.environ.get("QUIRE_FIXTURES", ROOT / ".." / "shared" / "fixtures"))
    for name in ("setup", "run", "scaling"):
        a = actions.add_parser(name)
        a.add_argument("--binary", type=pathlib.Path, default=ROOT / "build" / "bin" / "quire")
        a.add_argument("--work", type=pathlib.Path, default=ROOT / "build" / "peers", help="models and texts")
        a.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
        a.add_argument("--seconds", type=float, default=2.0, help="at least, for each entry of a round")
        a.add_argument("--results", type=pathlib.Path, default=ROOT / "build" / "peers" / "results")
        a.add_argument("--rounds", type=int, default=3)
        if name == "scaling":
            a.add_argument("--sweeps", nargs="+", default=list(scaling.SWEEPS), choices=list(scaling.SWEEPS))
            a.add_argument("--points", nargs="+", type=int, default=[], help="those of a sweep alone: 774")
            a.add_argument("--dtypes", nargs="+", default=scaling.DTYPES, choices=scaling.DTYPES)
            a.add_argument("--kinds", nargs="+", default=scaling.KINDS, choices=scaling.KINDS)
            a.add_argument("--add", action="store_true", help="further points and rounds to those of the results")
            continue
        a.add_argument("--environment", type=pathlib.Path, default=ROOT / "build" / "peers" / "environment",
                       help="the peers' virtual environment")
        a.add_argument("--vocabulary", type=pathlib.Path, default=fixtures / "gpt2-vocab",
                       help="GPT-2's vocab.json and merges.txt")
        a.add_argument("--prose", type=pathlib.Path, default=fixtures / "data" / "tinyshakespeare" / "input.txt")
        if name == "run":
            a.add_argument("--works", nargs="+", default=[], help="those that begin so: generate-int8 train")
            a.add_argument("--peers", nargs="+", default=["transformers", "torch", "llama.cpp", "tiktoken", "tokenizers"])
            a.add_argument("--compile", action="store_true", help="torch.compile beside eager training: minutes each")
            a.add_argument("--tries", type=int, default=3, help="at most, for a round in which memory gave all about the same")
            a.add_argument("--add", action="store_true", help="further rounds to those of the results")
    a = actions.add_parser("keep")
    a.add_argument("folder", type=pathlib.Path)
    a.add_argument("--root", type=pathlib.Path, default=ROOT)
    a = actions.add_parser("documents")
    a.add_argument("--check", action="store_true")
    a.add_argument("--root", type=pathlib.Path, default=ROOT)
    return parser.parse_args()


def main():
    o = options()
    if o.action == "documents":
        return cpu_report.documents(o.root, o.check)
    if o.action == "keep":
        return keep(o)
    if o.action == "setup":
        setup(o, complete=True)
    elif o.action == "scaling":
        scaling.run(o, note)
        show(o.results)
    else:
        run(o)
    return 0


if __name__ == "__main__":
    sys.exit(main())
