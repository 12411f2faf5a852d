#!/usr/bin/env python3
"""What a training step of GPT-2 124M in bf16 should take on an H100, kernel by kernel, and what it took.

    scripts/step_model.py            prints it
    scripts/step_model.py write      writes it into kernels/cuda/README.md, between the marks
    scripts/step_model.py check      exits 1 where the README holds another one

Shapes come from where the engine has them: the model's from engine/model/config.h, rows of a head's chunk and columns
of logits from kernels/cuda/device.h. A kernel has the name that `quire bench kernels` gives it, so that measurements
of a card, bench/results/CARD/*.json, stand beside it as soon as there are any.
"""
import argparse
import json
import math
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
README = ROOT / "kernels" / "cuda" / "README.md"
BEGIN, END = "<!-- written by scripts/step_model.py -->\n", "<!-- end of the step model -->\n"

BANDWIDTH, FLOPS = 3.35e12, 798e12  # H100 SXM: its data sheet; a large bf16 product measured on such a card

# What kernels of others reach on one H100. llm.c takes 140 ms for a step of 65,536 tokens, 63% of it in products; its
# layernorms move 1.2 to 2.2 TB/s and its AdamW 70% of the bandwidth. The best kernels that memory bounds reach 90%.
# Products with algorithms that were timed would save it 11 ms. FlashAttention-2 at T = 1024 and head size 64, causal:
# 229 TFLOP/s forward and 192 forward and backward, so 5 products at 180 backward.
LLMC_TOKENS, LLMC_PRODUCTS, LLMC_TIMED = 65536, 0.63 * 140e-3, 0.63 * 140e-3 - 11e-3  # tokens, s, s
ATTENTION_FORWARD, ATTENTION_BOTH = 229e12, 192e12
ATTENTION_BACKWARD = 5 / (7 / ATTENTION_BOTH - 2 / ATTENTION_FORWARD)


def number_in(path, pattern):
    found = re.search(pattern, (ROOT / path).read_text())
    if not found:
        sys.exit(f"error: {path} has no {pattern}")
    return int(found[1].replace("'", ""))


def shapes(batch, length=1024):
    """The letters of kernels/tensor.h for that batch."""
    config = {letter: number_in("engine/model/config.h", rf"int {name} = (\d+);")
              for letter, name in dict(V="vocab_size", C="n_embd", L="n_layer", H="n_head", P="n_positions").items()}
    multiple = number_in("kernels/cuda/device.h", r"int vocab_multiple\(\) const override \{ return (\d+); \}")
    rows = number_in("kernels/cuda/device.h", r"int64_t head_rows\(\) const override \{ return (\d+); \}")
    s = dict(config, B=batch, T=length, N=batch * length, I=4 * config["C"])
    s["W"] = -(-s["V"] // multiple) * multiple
    s["R"] = min(rows, s["N"])
    matrices = (s["V"] + s["P"]) * s["C"] + s["L"] * 12 * s["C"] ** 2
    s["matrices"], s["parameters"] = matrices, matrices + s["L"] * 13 * s["C"] + 2 * s["C"]
    return s


def distinct(draws, of):
    """Different ids expected among so many draws, as bench/case_dimensions.h has it."""
    return -of * math.expm1(draws * math.log1p(-1 / of))


def product(name, calls, m, k, n, reads=0, writes=0):
    """The three products of a layer's weight; `reads` and `writes` are of what goes through an activation with it."""
    flops = 2 * m * k * n
    return [(f"matmul_forward/{name}", "product", calls, 2 * (m * k + k * n + m * n) + writes, flops),
            (f"matmul_backward_input/{name}", "product", calls, 2 * (m * n + k * n + m * k) + reads, flops),
            (f"matmul_backward_weight/{name}", "product", calls, 2 * (m * k + m * n) + 8 * k * n, flops)]


def kernels(s):
    """(name, kind, calls a step, bytes and flops of a call), dropout off, outputs kept, epilogues granted."""
    B, T, N, C, I, L, V, W, R = (s[letter] for letter in "BTNCILVWR")
    NC, chunks, pairs = N * C, -(-N // R), B * C * T * (T + 1)  # 2 flops for each pair of a row and channel, halved
    rows = C * (distinct(N, V) + T)  # of the two tables
    return [("embedding_forward", "memory", 1, 2 * (NC + rows) + 8 * N, 0),
            ("layernorm_forward", "memory", 1, 4 * NC + 8 * N, 0),
            ("residual_layernorm_forward", "memory", 2 * L, 8 * NC + 8 * N, 0),
            ("attention_forward", "attention", L, 8 * NC + 4 * N * s["H"], 2 * pairs),
            *product("qkv", L, N, C, 3 * C), *product("proj", L, N, C, C),
            # The slope of the activation is taken by a kernel of its own.
            *product("fc", L, N, C, I, writes=2 * N * I), *product("mlp_proj", L, N, I, C, reads=6 * N * I),
            *product("head", chunks, R, C, W),
            ("cross_entropy_backward", "memory", chunks, 2 * R * (V + W) + 8 * R, 0),
            # The scores and d_p in both of its kernels: 7 products, where 5 would do.
            ("attention_backward", "attention", L, 16 * NC + 4 * N * s["H"], 7 * pairs),
            ("layernorm_backward", "memory", 2 * L + 1, 8 * NC + 8 * N, 0),
            ("embedding_backward", "memory", 1, 2 * NC + 8 * rows + 8 * N, 0),
            ("fill_zero", "memory", 1, 2 * NC + 4 * (s["parameters"] + (W - V) * C), 0),
            ("squared_norm", "memory", 1, 4 * s["parameters"], 0),
            ("adamw", "adamw", 1, 28 * s["parameters"] + 2 * s["matrices"], 0)]


def product_flops(s):
    return sum(calls * flops for _, kind, calls, _, flops in kernels(s) if kind == "product")


def rates(memory, products):
    """Bytes and flops a second of each kind of kernel."""
    of_llmc = product_flops(shapes(LLMC_TOKENS // 1024))
    return {"memory": (memory, FLOPS), "adamw": (0.7 * BANDWIDTH, FLOPS), "product": (BANDWIDTH, of_llmc / products),
            "attention forward": (BANDWIDTH, ATTENTION_FORWARD), "attention backward": (BANDWIDTH, ATTENTION_BACKWARD)}


EXPECTED, TIMED = rates(2.2e12, LLMC_PRODUCTS), rates(2.2e12, LLMC_TIMED)
CAREFUL, GOOD = rates(1.2e12, LLMC_PRODUCTS), rates(0.9 * BANDWIDTH, LLMC_TIMED)


def seconds(kernel, rate):
    name, kind, calls, moved, flops = kernel
    by_memory, by_flops = rate[name.replace("_", " ") if kind == "attention" else kind]
    return calls * max(moved / by_memory, flops / by_flops)


def floor(kernel):
    _, _, calls, moved, flops = kernel
    return calls * max(moved / BANDWIDTH, flops / FLOPS)


def step_seconds(batch, rate=None):
    return sum(seconds(k, rate) if rate else floor(k) for k in kernels(shapes(batch)))


# ---------------------------------------------------------------- what cards gave


def measured(folder):
    """{(card, batch): {kernel: seconds of a call}}, and whole steps under "step"."""
    found = {}
    for path in sorted(folder.glob("*/*.json")):
        report = json.loads(path.read_text())
        context = report.get("context", {})
        for entry in report.get("benchmarks", []):
            time = entry["real_time"] * {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1}[entry.get("time_unit", "ns")]
            if step := re.fullmatch(r"train/gpt2/batch:(\d+)/length:1024", entry["name"]):
                found.setdefault((path.parent.name, int(step[1])), {})["step"] = time
            elif (entry["name"].endswith("/cold") and context.get("model") == "gpt2"
                  and context.get("dtype") == "bfloat16" and context.get("length") == "1024"):
                batch = int(context["batch"])
                found.setdefault((path.parent.name, batch), {})[entry["name"].removesuffix("/cold")] = time
    return found


# ---------------------------------------------------------------- the text


def amount(value, unit):
    for scale, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if value >= scale:
            return f"{value / scale:.3g} {letter}{unit}"
    return "" if value == 0 else f"{value / 1e3:.3g} k{unit}"


def table(batch, other, results):
    columns = [(card, times) for (card, of), times in results.items() if of == batch]
    titles = ["kernel", "calls", "bytes", "flops", "floor, µs", "expected, µs", f"at B = {other}, µs"]
    titles += [f"{card}, µs" for card, _ in columns]
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for kernel, smaller in zip(kernels(shapes(batch)), kernels(shapes(other))):
        name, _, calls, moved, flops = kernel
        cells = [f"`{name}`", f"{calls}", amount(calls * moved, "B"), amount(calls * flops, "FLOP"),
                 f"{floor(kernel) * 1e6:,.0f}", f"{seconds(kernel, EXPECTED) * 1e6:,.0f}",
                 f"{seconds(smaller, EXPECTED) * 1e6:,.0f}"]
        cells += [f"{calls * times[name] * 1e6:,.0f}" if name in times else "" for _, times in columns]
        lines.append(f"| {' | '.join(cells)} |")
    cells = ["a step", "", "", "", f"{step_seconds(batch) * 1e6:,.0f}", f"{step_seconds(batch, EXPECTED) * 1e6:,.0f}",
             f"{step_seconds(other, EXPECTED) * 1e6:,.0f}"]
    cells += [f"{times['step'] * 1e6:,.0f}" if "step" in times else "" for _, times in columns]
    return lines + [f"| {' | '.join(cells)} |"]


def tokens_line(what, rate):
    of = [f"{shapes(batch)['N'] / step_seconds(batch, rate) / 1e3:,.0f}k" for batch in (64, 16)]
    return f"| {what} | {' | '.join(of)} |"


def text(results):
    s = shapes(64)
    measured_text = ("**Nothing below was measured.**" if not results else
                     "The last columns were measured on the cards that they name; all else is arithmetic.")
    lines = [
        f"{measured_text} All calls of a training step together: {s['N']:,} tokens (B = 64, T = 1024), dropout off, "
        f"{s['W']:,} columns of logits for {s['R']:,} rows at once, outputs of layernorms and activations kept, biases "
        "and GELU in the products. Bytes are those that must pass through memory once.", "",
        *table(64, 16, results), "",
        "| tokens a second | B = 64 | B = 16 |", "|---|---|---|",
        tokens_line("floor: 3.35 TB/s, 798 TFLOP/s", None),
        tokens_line("expected: memory-bound kernels at 2.2 TB/s, the best of llm.c's layernorms", EXPECTED),
        tokens_line("the same at 1.2 TB/s, the slowest of them", CAREFUL),
        tokens_line("at 2.2 TB/s, products with algorithms that were timed (`--autotune`)", TIMED),
        tokens_line("these products, and memory-bound kernels at 90% of the bandwidth", GOOD)]
    for (card, batch), times in sorted(results.items()):
        if "step" in times:
            lines.append(f"| measured: {card}, B = {batch} | {batch * 1024 / times['step'] / 1e3:,.0f}k | |")
    product_rate = EXPECTED["product"][1]
    lines += ["",
              f"What is assumed is what others reach on one H100: products {product_rate / 1e12:.0f} TFLOP/s, as llm.c "
              "(63% of 140 ms for 65,536 tokens), with timed algorithms 11 ms less; attention as FlashAttention-2 at "
              f"this shape, {ATTENTION_FORWARD / 1e12:.0f} TFLOP/s forward and {ATTENTION_BACKWARD / 1e12:.0f} backward, "
              "where ours does 7 products for its 5; AdamW 70% of the bandwidth. Gaps between kernels count as nothing."]
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", nargs="?", choices=("print", "write", "check"), default="print")
    action = parser.parse_args().action
    model = text(measured(ROOT / "bench" / "results"))
    if action == "print":
        print(model, end="")
        return
    before, begin, rest = README.read_text().partition(BEGIN)
    old, end, after = rest.partition(END)
    if not end:
        sys.exit(f"error: {README} has no marks of the step model")
    if action == "write":
        README.write_text(before + begin + model + end + after)
    elif old != model:
        sys.exit(f"error: {README} holds another step model: scripts/step_model.py write")


if __name__ == "__main__":
    main()
