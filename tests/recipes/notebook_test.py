#!/usr/bin/env python3
"""Runs the cells of textgen-project's notebook on a made-up project and looks at what it draws.

The pictures are as pictures.py wants them; the first cell says what the notebook needs.
usage: notebook_test.py NOTEBOOK. 77: there is no matplotlib.
"""
import contextlib
import io
import json
import os
import sys
import tempfile
from pathlib import Path

try:
    import matplotlib

    matplotlib.use("Agg")
    import pictures
except ImportError:
    sys.exit(77)

METRICS = ["distinct_1", "distinct_2", "distinct_3", "self_bleu4", "copied_share", "perplexity"]
found = pictures.found


def make_project(folder):
    """Curves that fill the picture's upper right corner and its lower left one: a legend is in the way."""
    for name in ["models/tuned", "results/evaluation_metrics", "results/generated_texts"]:
        (folder / name).mkdir(parents=True)
    lines = []
    for step in range(1, 2001):
        loss = 3.5 + (step * 7919 % 101) / 100
        lines.append({"step": step, "loss": loss, "learning_rate": 1.25e-4 * step / 2000})
        if step % 200 == 0:
            lines.append({"step": step, "eval_loss": 4.2, "eval_perplexity": 66.7})
    (folder / "models/tuned/log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    rows = "".join(f"{name},{0.9 - 0.1 * i}\n" for i, name in enumerate(METRICS))
    (folder / "results/evaluation_metrics/evaluation_metrics.csv").write_text("metric,value\n" + rows)
    (folder / "results/generated_texts/text-1.txt").write_text("Once upon a time\n")


def main():
    notebook = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    intro = "".join(notebook["cells"][0]["source"])
    for need in ["Python 3", "matplotlib", "log.jsonl", "evaluation_metrics.csv", "generated_texts"]:
        if need not in intro:
            found.append(f"the first cell does not say that {need} is needed")
    pictures.watch()
    with tempfile.TemporaryDirectory() as folder:
        make_project(Path(folder))
        os.chdir(Path(folder) / "results")
        names, printed = {}, io.StringIO()
        with contextlib.redirect_stdout(printed):
            for cell in notebook["cells"]:
                if cell["cell_type"] == "code":
                    exec("".join(cell["source"]), names)
        os.chdir("/")
    if pictures.figures != 2:
        found.append(f"{pictures.figures} figures were drawn, not 2")
    if "Once upon a time" not in printed.getvalue():
        found.append("the generated text is not shown")
    for line in found:
        print(line)
    sys.exit(1 if found else 0)


main()
