"""What is wrong with the pictures that a notebook draws.

No text of a figure may lie on another, none may leave the figure, no legend may lie on a curve, and every
axis of numbers has a name.
"""
import itertools

import matplotlib.pyplot as plt
from matplotlib.category import StrCategoryFormatter
from matplotlib.legend import Legend
from matplotlib.text import Text
from matplotlib.ticker import FixedFormatter

found = []
figures = 0


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
    for axes in figure.axes:
        for name, axis in (("x", axes.xaxis), ("y", axes.yaxis)):
            of_words = isinstance(axis.get_major_formatter(), (FixedFormatter, StrCategoryFormatter))
            if not of_words and not axis.get_label_text():
                found.append(f"the {name} axis has no name")
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


def watch():
    """From here on plt.show() looks at what it would show."""
    plt.show = show
