#!/usr/bin/env python3
"""scripts/gpu_report.py over made-up results, in a folder of their own; arguments: the script, the project's root."""
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

script, root = sys.argv[1], pathlib.Path(sys.argv[2])
DOCUMENTS = ("bench/README.md", "kernels/cuda/README.md")


def run(*arguments):
    return subprocess.run([sys.executable, script, *map(str, arguments)], capture_output=True, text=True)


def has(text, *parts):
    for part in parts:
        assert part in text, f"{part!r} is not in\n{text}"


# The project's own documents say what its results say.
own = run("documents", "--check")
assert own.returncode == 0, own.stdout

with tempfile.TemporaryDirectory() as folder:
    copy = pathlib.Path(folder) / "copy"
    for name in DOCUMENTS:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / name, copy / name)

    # Without results: nothing has been measured, whatever stood there.
    for name in DOCUMENTS:
        (copy / name).write_text((copy / name).read_text().replace("measured on a GPU yet", "timed at 1 ms"))
    run("documents", "--root", copy)
    for name in DOCUMENTS:
        has((copy / name).read_text(), "measured on a GPU yet")
    assert run("documents", "--check", "--root", copy).returncode == 0

    # What a run left: one comparison disagrees, one case broke the card.
    work, out = pathlib.Path(folder) / "work", pathlib.Path(folder) / "out"
    for path in (work / "gpu", work / "train-cpu", work / "train-cuda", out):
        path.mkdir(parents=True)
    (work / "gpu.txt").write_text("Made-up Card 1 GB, 999.01, 1024 MiB, 1 MHz, 1 MHz, 1 W\n")
    (work / "gpu" / "commit").write_text("0123456789ab\n")
    (work / "steps.tsv").write_text("test_kernels\tfailed\t7\texit status 1\nbench-train\tok\t5\texit status 0\n")
    (work / "test_kernels.json").write_text(json.dumps({
        "program": "test_kernels", "cases": 3, "passed": 1, "failed": 2, "skipped": [], "groups": [{
            "file": "made_up_test", "broken_by": "a fault", "failed": [
                {"case": "a fault", "first": "CUDA error", "alone": "fails: CUDA error"},
                {"case": "after it", "first": "CUDA error", "alone": "passes"}]}]}))
    (work / "train-cpu" / "log.jsonl").write_text('{"loss": 1.0}\n{"loss": 0.5}\n')
    (work / "train-cuda" / "log.jsonl").write_text('{"loss": 1.0}\n{"loss": 0.6}\n')
    entry = {"real_time": 2e6, "items_per_second": 12345.0, "bytes_per_second": 3e9, "percent_of_bandwidth": 60.0}
    (work / "bench-train.json").write_text(json.dumps({"benchmarks": [{"name": "train/made-up", **entry}]}))
    (work / "bench-kernels.json").write_text(json.dumps({"context": {"batch": "64"}, "benchmarks": [
        {"name": "made_up_kernel/cold", **entry}]}))
    (work / "peers.jsonl").write_text('{"device": "x"}\n{"section": "train", "what": "torch", "shape": "B1", "ms": 4.0}\n')
    result = run("report", work, out)
    assert result.returncode == 1, result
    has((out / "gpu.md").read_text(), "| training losses | NO | 2 steps, largest difference 2.0e-01 |",
        'The card was broken by "a fault" (made_up_test).', '"after it" (made_up_test): CUDA error; alone: passes')

    # Kept: each part names its origin, and the documents have the figures.
    result = run("keep", out / "gpu.json", "--root", copy)
    assert result.returncode == 0, result
    results = copy / "bench" / "results" / "made-up-card-1-gb"
    assert sorted(path.stem for path in results.iterdir()) == ["kernels", "models", "peers", "tests"]
    for path in results.iterdir():
        part = json.loads(path.read_text())
        assert (part["card"], part["driver"], part["commit"]) == ("Made-up Card 1 GB", "999.01", "0123456789ab"), part
    bench, kernels = ((copy / name).read_text() for name in DOCUMENTS)
    has(bench, "### Made-up Card 1 GB", "driver 999.01, commit 0123456789ab", 'broken by "a fault"',
        "| quire | train/made-up | 2.000 | 12,345.0 | 3.0 |  | 60.0 |", "| peer: train | torch, B1 | 4.000 |")
    has(kernels, "on Made-up Card 1 GB (driver 999.01", "| quire | made_up_kernel/cold | 2.000 |  | 3.0 |  | 60.0 |")
    for text in (bench, kernels):
        assert "measured on a GPU yet" not in text and text.count("### Made-up") <= 1, text
    assert "made_up_kernel" not in bench and "train/made-up" not in kernels
    assert kernels.partition("<!-- end of what was measured")[2] == (
        root / DOCUMENTS[1]).read_text().partition("<!-- end of what was measured")[2]

    # A later run of one part replaces that part alone.
    found = json.loads((out / "gpu.json").read_text())
    found.update(commit="ba9876543210", steps=[], tests=[], comparisons=[], peers=[], benchmarks=[
        {"name": "made_up_kernel/cold", **entry, "real_time": 1e6}])
    (out / "gpu.json").write_text(json.dumps(found))
    run("keep", out / "gpu.json", "--root", copy)
    bench, kernels = ((copy / name).read_text() for name in DOCUMENTS)
    has(bench, "0123456789ab", "train/made-up")
    has(kernels, "ba9876543210", "| quire | made_up_kernel/cold | 1.000 |")
    assert "ba9876543210" not in bench and "0123456789ab" not in kernels

    # A figure changed by hand, and results that name no card.
    (copy / DOCUMENTS[1]).write_text(kernels.replace("| 1.000 |", "| 0.500 |"))
    assert run("documents", "--check", "--root", copy).returncode == 1
    (out / "gpu.json").write_text(json.dumps({**found, "card": ""}))
    refused = run("keep", out / "gpu.json", "--root", copy)
    assert refused.returncode == 1 and "names no card" in refused.stderr, refused
print("documents say what the results say, and nothing where there are none")
