"""The works of peers.py: who runs what, as which process, and how its output is read.

A work is a list of `Runner`s; each runs one process and returns samples, {"work", "who", "items", "seconds" or "entry",
"peak_memory_bytes"}. A process of its own for each round and program: peak memory is the process's, and no program
finds the other's threads awake. One that cannot run raises `LeftOut` with the reason.
"""
import dataclasses
import json
import os
import pathlib
import random
import re
import subprocess
import tempfile
import time
import typing

HERE = pathlib.Path(__file__).resolve().parent
DTYPES = {"float32": "f32", "bfloat16": "bf16", "float16": "f16", "int8": "q8_0", "int4": "q4_0"}  # and llama.cpp's
TRAINING = [(4, 64), (4, 256), (2, 1024)]  # rows, tokens a row
PROMPT_IDS = " ".join(str(i) for i in random.Random(1).sample(range(50256), 32))


class LeftOut(Exception):
    pass


@dataclasses.dataclass
class Place:
    """Where everything lies, and how long it runs."""
    quire: pathlib.Path
    python: pathlib.Path  # of the peers' virtual environment
    work: pathlib.Path  # models, texts
    vocabulary: pathlib.Path
    threads: int
    seconds: float
    device: str = ""  # as quire names it
    versions: dict = dataclasses.field(default_factory=dict)

    @property
    def folder(self):
        """The model as transformers has it, of which the files of model() were converted."""
        return self.work / "gpt2"

    def model(self, dtype):
        """The file that quire and llama.cpp both read."""
        return self.work / f"gpt2-{DTYPES[dtype]}.gguf"

    def text(self, kind):
        return self.work / f"{kind}.txt"


@dataclasses.dataclass
class Runner:
    who: str
    run: typing.Callable[[Place], list]
    what: str = ""  # of the work, where it has several runners for one program

    def label(self):
        return f"{self.who} {self.what}".strip()


def reason_in(stderr, code):
    """The error's line, or the last; without folders, as it goes into results."""
    said = [line for line in stderr.splitlines() if line.strip()] or [f"exit code {code}"]
    return re.sub(r"/\S*/", "", next((line for line in said if line.startswith("error")), said[-1]))


def output_of(command, place):
    """stdout of a process; LeftOut with what it said last where it failed."""
    environment = dict(os.environ, HF_HUB_OFFLINE="1", OMP_NUM_THREADS=str(place.threads))
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, env=environment)
    if done.returncode:
        raise LeftOut(reason_in(done.stderr, done.returncode))
    return done.stdout


def quire_entries(place, *arguments):
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "found.json"
        output_of([place.quire, "bench", *arguments, "--quiet", "--output", file], place)
        found = json.loads(file.read_text())
    place.device = found["context"].get("device", place.device)
    return found["benchmarks"]


def reading(place):
    """What memory gives at this moment, in bytes/s."""
    return json.loads(output_of([place.quire, "doctor", "--json"], place))["read_bytes_per_second"]


def peer_samples(place, who, script, *arguments):
    if not place.python.exists():
        raise LeftOut("there is no virtual environment")
    samples = []
    for line in output_of([place.python, HERE / script, *arguments], place).splitlines():
        found = json.loads(line)
        place.versions |= found.pop("versions")
        samples.append({"work": found.pop("name"), "who": who, **found})
    return samples


def own_samples(entries, name_of=lambda name: name):
    return [{"work": name_of(e["name"]), "who": "quire", "entry": e, "peak_memory_bytes": e.get("peak_memory_bytes")}
            for e in entries]


# ---------------------------------------------------------------- generation and training


def there(path):
    if not path.exists():
        raise LeftOut(f"{path.name} is not there")
    return path


def generate_work(dtype):
    """The same GGUF file for quire and llama.cpp; transformers reads the folder that it was converted from."""

    def name_of(name):
        """decode/gpt2-q4_0.gguf/q4_0/batch:1, of the file, as the work that it is for all programs."""
        kind, _, _, shape = name.split("/")
        return f"{kind}/gpt2/{dtype}/{shape}"

    def quire(place):
        return own_samples(quire_entries(place, "generate", "--model", there(place.model(dtype)), "--seconds", place.seconds,
                                         "--threads", place.threads), name_of)

    def llama(place):
        return peer_samples(place, "llama.cpp", "peer_llama.py", "generate", "--model", there(place.model(dtype)), "--dtype",
                            dtype, "--seconds", place.seconds, "--threads", place.threads)

    def transformers(place):
        return peer_samples(place, "transformers", "peer_torch.py", "generate", "--model", there(place.folder), "--dtype",
                            dtype, "--seconds", place.seconds, "--threads", place.threads)

    runners = [Runner("quire", quire), Runner("llama.cpp", llama)]
    return runners + [Runner("transformers", transformers)] * (dtype in ("float32", "bfloat16"))


def train_work(batch, length, dtype, compiled):
    name = f"train/gpt2/{dtype}/batch:{batch}/length:{length}"
    shape = ["--batch", batch, "--length", length]
    bf16 = ["--bf16"] * (dtype == "bfloat16")

    def quire(place):
        entries = quire_entries(place, "train", "--batch-size", batch, "--block-size", length, "--seconds", place.seconds,
                                "--threads", place.threads, *bf16)
        return own_samples(entries, lambda _: name)

    def torch(who, *more):
        return Runner(who, lambda place: peer_samples(place, who, "peer_torch.py", "train", *shape, *bf16, *more, "--seconds",
                                                      place.seconds, "--threads", place.threads))

    runners = [Runner("quire", quire), torch("torch")]
    return runners + [torch("torch, compiled", "--compile")] * compiled


# ---------------------------------------------------------------- text


def tokenizer_samples(place, prefixes, who="quire"):
    """quire's own entries, whose items are tokens here and bytes with the peers."""
    entries = quire_entries(place, "tokenizer", "--tokenizer", place.vocabulary, "--prose", place.text("prose"), "--mix",
                            place.text("mix"), "--seconds", min(place.seconds, 1))
    return [{"work": e["name"], "who": who, "seconds": [t * 1e-9 for t in (e["fastest"], e["real_time"], e["slowest"])],
             "items": round(e["bytes_per_second"] * e["real_time"] * 1e-9)} for e in entries if e["name"] in prefixes]


def tokenizer_work():
    names = ("load", "encode/prose", "encode/mix", "encode/prose/cold", "encode/mix/cold", "decode/prose", "decode/mix",
             "train/vocab:8000")

    def peer(who):
        return Runner(who, lambda place: peer_samples(
            place, who, "peer_tokenizers.py", who, "--vocabulary", place.vocabulary, "--prose", place.text("prose"),
            "--mix", place.text("mix"), "--seconds", min(place.seconds, 1)))

    return [Runner("quire", lambda place: tokenizer_samples(place, names)), peer("tiktoken"), peer("tokenizers")]


def process_seconds(command, place):
    """From the start of a process to the first byte that it prints, to its end, its peak memory and its output."""
    begin = time.monotonic()
    with tempfile.TemporaryFile() as trouble:
        process = subprocess.Popen([str(c) for c in command], stdout=subprocess.PIPE, stderr=trouble,
                                   env=dict(os.environ, HF_HUB_OFFLINE="1", OMP_NUM_THREADS=str(place.threads)))
        output = process.stdout.read(1)
        first = time.monotonic() - begin
        output += process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        process.stdout.close()
        if process.returncode:
            trouble.seek(0)
            raise LeftOut(reason_in(trouble.read().decode(errors="replace"), process.returncode))
    return begin, first, time.monotonic() - begin, usage.ru_maxrss * 1024, output


def repeated(run, seconds):
    """What `run` returned, of five runs or more behind one that reads the files."""
    run()
    found, start = [], time.monotonic()
    while len(found) < 5 or time.monotonic() - start < seconds:
        found.append(run())
    return found


def file_work():
    """A file becomes printed ids: the whole process, and what loading and a cold encode take of it inside the library."""
    def process(place):
        command = [place.quire, "tokenizer", "encode", "--tokenizer", place.vocabulary, "--plain", "--quiet",
                   place.text("prose")]
        found = repeated(lambda: process_seconds(command, place), place.seconds)
        return [{"work": "encode_file/prose", "who": "quire", "seconds": [run[2] for run in found],
                 "items": place.text("prose").stat().st_size, "peak_memory_bytes": max(run[3] for run in found)}]

    def library(place):
        load, cold = tokenizer_samples(place, ("load", "encode/prose/cold"))
        if load["work"] != "load":
            load, cold = cold, load
        return [{"work": "encode_file/prose", "who": "quire, library alone", "items": cold["items"],
                 "seconds": [a + b for a, b in zip(load["seconds"], cold["seconds"])]}]

    return [Runner("quire", process), Runner("quire, library alone", library)]


def start_work():
    """A process, its files warm, to the first token after a prompt of 32; the same GGUF file for both. llama.cpp's
    process is Python's: what is left without starting Python and its imports is told, too."""
    def quire(dtype):
        def run(place):
            command = [place.quire, "generate", "--model", place.model(dtype), "--prompt-ids", PROMPT_IDS, "-n", 1,
                       "--ignore-eos", "--no-display-prompt", "--quiet", "--threads", place.threads]
            found = repeated(lambda: process_seconds(command, place), place.seconds)
            return [{"work": f"start/gpt2/{dtype}", "who": "quire", "seconds": [run[1] for run in found],
                     "peak_memory_bytes": max(run[3] for run in found)}]
        return run

    def llama(dtype):
        def run(place):
            command = [place.python, HERE / "peer_llama.py", "start", "--model", place.model(dtype), "--ids", PROMPT_IDS,
                       "--threads", place.threads]
            whole, without = [], []
            memory = 0
            for begin, _, _, peak, output in repeated(lambda: process_seconds(command, place), place.seconds):
                told = json.loads(output)
                place.versions |= told["versions"]
                whole.append(told["first_token"] - begin)
                without.append(told["first_token"] - told["imported"])
                memory = max(memory, peak)
            return [{"work": f"start/gpt2/{dtype}", "who": who, "seconds": seconds, "peak_memory_bytes": memory}
                    for who, seconds in (("llama.cpp", without), ("llama.cpp, with Python's start", whole))]
        return run

    return [Runner(who, make(dtype), dtype) for dtype in ("float32", "float16", "int8", "int4")
            for who, make in (("quire", quire), ("llama.cpp", llama))]


def works(flags, compiled):
    """{name: runners}, in the order of the tables. `flags`: what /proc/cpuinfo says that the CPU has."""
    found = {f"generate-{dtype}": generate_work(dtype) for dtype in DTYPES}
    bf16_here = not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(flags)
    found |= {f"train-{b}x{t}-{dtype}": train_work(b, t, dtype, compiled)
              for b, t in TRAINING for dtype in ["float32"] + ["bfloat16"] * bf16_here}
    return found | {"tokenizer": tokenizer_work(), "file": file_work(), "start": start_work()}
