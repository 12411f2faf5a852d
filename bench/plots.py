"""Two pictures in SVG: ranges of ratios along a logarithmic axis, and panels of curves over doubling steps."""
import math
from xml.sax.saxutils import escape

COLORS = ["#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b"]
STYLE = 'font-family="sans-serif" font-size="12"'


def text(x, y, what, anchor="start", **more):
    extra = "".join(f' {key.replace("_", "-")}="{value}"' for key, value in more.items())
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{extra}>{escape(what)}</text>'


def line(x1, y1, x2, y2, color="#dddddd", width=1):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{color}" stroke-width="{width}"/>'


def picture(width, height, parts):
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
                      f'height="{height}" {STYLE}>', f'<rect width="{width}" height="{height}" fill="#ffffff"/>', *parts,
                      "</svg>", ""])


def steps(low, high, factor=2.0):
    """Powers of `factor` around low … high."""
    first = math.floor(math.log(low, factor) + 1e-9)
    last = max(first + 1, math.ceil(math.log(high, factor) - 1e-9))
    return [factor ** i for i in range(first, last + 1)]


def short(value):
    return f"{value:,.0f}" if value >= 10 else f"{value:.3g}"


def ranges(title, rows):
    """`rows`: (label, program, (median, lowest, highest)). A point for each median, a line for its range; right of 1 is
    what is faster than that program."""
    left, plot, top, step = 330, 420, 52, 20
    programs = list(dict.fromkeys(row[1] for row in rows))
    grid = steps(min([0.5] + [row[2][1] for row in rows]), max([2.0] + [row[2][2] for row in rows]))
    span = math.log(grid[-1] / grid[0])

    def x(value):
        return left + plot * math.log(value / grid[0]) / span

    bottom = top + step * len(rows) + 6
    parts = [text(10, 22, title, font_size=14)]
    for value in grid:
        parts += [line(x(value), top - 6, x(value), bottom, "#555555" if value == 1 else "#dddddd"),
                  text(x(value), bottom + 16, short(value), "middle")]
    for index, (label, program, (median, low, high)) in enumerate(rows):
        y, color = top + step * index + 8, COLORS[programs.index(program) % len(COLORS)]
        parts += [text(left - 10, y + 4, label, "end"), line(x(low), y, x(high), y, color, 2),
                  f'<circle cx="{x(median):.1f}" cy="{y:.1f}" r="4" fill="{color}"/>',
                  text(left + plot + 12, y + 4, f"{median:.2f} × {program}", fill=color)]
    parts.append(text(left + plot / 2, bottom + 34, "times as fast as the other program, median and range of rounds", "middle"))
    return picture(left + plot + 80 + 7 * max(map(len, programs)), bottom + 46, parts)


def panel(title, curves, left, top, width, height):
    """Curves {name: [(x, y)]} in a box, both axes logarithmic."""
    xs = [x for curve in curves.values() for x, _ in curve]
    ys = [y for curve in curves.values() for _, y in curve]
    x_grid, y_grid = steps(min(xs), max(xs)), steps(min(ys), max(ys), 10.0 if max(ys) > 30 * min(ys) else 2.0)

    def place(value, grid, start, length):
        return start + length * math.log(value / grid[0]) / math.log(grid[-1] / grid[0])

    parts = [text(left, top - 10, title, font_size=13)]
    for value in x_grid:
        x = place(value, x_grid, left, width)
        parts += [line(x, top, x, top + height), text(x, top + height + 15, short(value), "middle", font_size=10)]
    for value in y_grid:
        y = place(value, y_grid, top + height, -height)
        parts += [line(left, y, left + width, y), text(left - 6, y + 4, short(value), "end", font_size=10)]
    for index, (name, curve) in enumerate(curves.items()):
        color = COLORS[index % len(COLORS)]
        at = [(place(x, x_grid, left, width), place(y, y_grid, top + height, -height)) for x, y in curve]
        parts.append(f'<polyline fill="none" stroke="{color}" stroke-width="2" points="'
                     + " ".join(f"{x:.1f},{y:.1f}" for x, y in at) + '"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{color}"/>' for x, y in at]
        parts.append(text(left, top + height + 32 + 14 * index, name, fill=color, font_size=11))
    return parts


def panels(title, found):
    """`found`: [(title, {name: [(x, y)]})], three to a row."""
    width, height, columns = 240, 170, 3
    legend = 14 * max(len(curves) for _, curves in found)
    box_width, box_height = width + 80, height + 80 + legend
    parts = [text(10, 22, title, font_size=14)]
    for index, (name, curves) in enumerate(found):
        parts += panel(name, curves, 60 + box_width * (index % columns), 64 + box_height * (index // columns), width, height)
    rows = -(-len(found) // columns)
    return picture(box_width * min(columns, len(found)) + 40, 40 + box_height * rows, parts)
