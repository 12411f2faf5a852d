"""What the three notebooks share: the project's folder, and the program.

The project is $PROJECT_DIR; or the folder above the notebooks, where that has data/raw; or, in a clone of Quire,
results/textgen-project, which begins with the bundled novels. The program is $QUIRE, the clone's or the PATH's.
"""
import json
import os
import shlex
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
CLONE = next((folder for folder in HERE.parents if (folder / "samples" / "novels").is_dir()), None)
MODEL = os.environ.get("MODEL", "narrator")
STEPS = os.environ.get("STEPS")  # a shorter training, to see what comes out
QUIET = ["--quiet"]


def find_program():
    built = CLONE / "build" / "bin" / "quire" if CLONE else None
    if found := os.environ.get("QUIRE") or (built if built and built.exists() else shutil.which("quire")):
        return str(found)
    raise FileNotFoundError("quire is neither built nor on the PATH: run ./run.sh in Quire's folder, or set QUIRE")


def find_project():
    if folder := os.environ.get("PROJECT_DIR"):
        return Path(folder).resolve()
    if (HERE.parent / "data" / "raw").is_dir():
        return HERE.parent
    if CLONE:
        return CLONE / "results" / "textgen-project"
    raise FileNotFoundError(f"there is no {HERE.parent / 'data' / 'raw'}: put your texts there, or set PROJECT_DIR")


PROGRAM = find_program()
PROJECT = find_project()


def make_project():
    """The folders, with the bundled novels as raw data where there is none."""
    raw = PROJECT / "data" / "raw"
    if not raw.is_dir():
        if not CLONE:
            raise FileNotFoundError(f"there is no {raw}: put your texts there")
        shutil.copytree(CLONE / "samples" / "novels", raw)
    for name in ["data/processed", "models", "results"]:
        (PROJECT / name).mkdir(parents=True, exist_ok=True)


def start(arguments, **pipes):
    words = [str(word) for word in arguments]
    print("$ quire", shlex.join(words), flush=True)
    return subprocess.Popen([PROGRAM, *words], cwd=PROJECT, text=True, encoding="utf-8", stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, **pipes)


def quire(*arguments):
    """Runs a command in the project's folder and shows what it prints, line by line."""
    with start(arguments, stderr=subprocess.STDOUT) as process:
        for line in process.stdout:
            print(line, end="", flush=True)
    if process.returncode != 0:
        raise RuntimeError(f"quire {arguments[0]} ended with exit code {process.returncode}: see above")


def quire_json(*arguments):
    """The same with --json: the objects that it prints."""
    with start([*arguments, "--json", *QUIET], stderr=subprocess.PIPE) as process:
        lines, errors = process.communicate()
    if process.returncode != 0:
        raise RuntimeError(errors)
    return [json.loads(line) for line in lines.splitlines()]


def read_log():
    """Lines of a training step, and those of a validation."""
    lines = (PROJECT / "models" / "tuned" / "log.jsonl").read_text(encoding="utf-8").splitlines()
    entries = [json.loads(line) for line in lines]
    return [e for e in entries if "loss" in e], [e for e in entries if "eval_loss" in e]
