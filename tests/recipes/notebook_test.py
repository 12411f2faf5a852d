#!/usr/bin/env python3
"""Runs the cells of textgen-project's notebook on a made-up project and looks at what it draws.

No text of a figure may lie on another, none may leave the figure, no legend may lie on a curve; the
first cell says what the notebook needs. usage: notebook_test.py NOTEBOOK. 77: there is no matplotlib.
"""
import contextlib
import io
import itertools
import json
import os
import sys
import tempfile
from pathlib import Path

try:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.legend import Legend
    from matplotlib.text import Text
except ImportError:
    sys.exit(77)

METRICS = ["distinct_1", "distinct_2", "distinct_3", "self_bleu4", "copied_share", "perplexity"]
found = []
figures = 0


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


def look_at(figure):
    renderer = figure.canvas.get_renderer()
    figure.canvas.draw()
    page = figure.bbox
    legends = figure.findobj(Legend)
    texts = [t for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip()]
    # A tick outside of the axis's limits has a label that is never drawn.
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            hidden = [t for t in axis.get_major_ticks() if not low <= t.get_loc() <= high]
            gone = {label for tick in hidden for label in (tick.label1, tick.label2)}
            texts = [t for t in texts if t not in gone]
    boxes = [(t.get_text(), t.get_window_extent(renderer)) for t in texts]
    for (a, box), (b, other) in itertools.combinations(boxes, 2):
        if box.overlaps(other):
            found.append(f"'{a}' lies on '{b}'")
    for text, box in boxes:
        if box.x0 < page.x0 or box.x1 > page.x1 or box.y0 < page.y0 or box.y1 > page.y1:
            found.append(f"'{text}' leaves the picture")
    for legend in legends:
        box = legend.get_window_extent(renderer)
        for axes in figure.axes:
            for line in axes.get_lines():
                points = axes.transData.transform(line.get_xydata())
                if any(box.contains(x, y) for x, y in points):
                    found.append(f"a legend lies on the curve '{line.get_label()}'")


def show():
    global figures
    for number in plt.get_fignums():
        look_at(plt.figure(number))
        figures += 1
    plt.close("all")


def main():
    notebook = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    intro = "".join(notebook["cells"][0]["source"])
    for need in ["Python 3", "matplotlib", "log.jsonl", "evaluation_metrics.csv", "generated_texts"]:
        if need not in intro:
            found.append(f"the first cell does not say that {need} is needed")
    plt.show = show
    with tempfile.TemporaryDirectory() as folder:
        make_project(Path(folder))
        os.chdir(Path(folder) / "results")
        names, printed = {}, io.StringIO()
        with contextlib.redirect_stdout(printed):
            for cell in notebook["cells"]:
                if cell["cell_type"] == "code":
                    exec("".join(cell["source"]), names)
        os.chdir("/")
    if figures != 2:
        found.append(f"{figures} figures were drawn, not 2")
    if "Once upon a time" not in printed.getvalue():
        found.append("the generated text is not shown")
    for line in found:
        print(line)
    sys.exit(1 if found else 0)


main()
