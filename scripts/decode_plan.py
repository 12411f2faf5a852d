#!/usr/bin/env python3
"""What a token of GPT-2 124M in bf16 takes to decode at batch 1 on an H100: launches, bytes, floors.

Beside them stands what cards gave (bench/results). The plan itself is arithmetic.

    scripts/decode_plan.py           prints it
    scripts/decode_plan.py write     writes it into kernels/cuda/README.md, between the marks
    scripts/decode_plan.py check     exits 1 where the README holds another one

Extents come from the code: the model's from engine/model/config.h, blocks from kernels/cuda/matvec.cuh, chunks from
kernels/cuda/attention_rows.cuh. The order of the launches is that of forward_hidden() in engine/model/forward.cpp.
"""
import argparse
import json
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
README = ROOT / "kernels" / "cuda" / "README.md"
RESULTS = ROOT / "bench" / "results"
BEGIN, END = "<!-- written by scripts/decode_plan.py -->\n", "<!-- end of the decode plan -->\n"

BANDWIDTH, SMS = 3.35e12, 132  # H100 SXM by its data sheet
CONTEXT = 512  # slots that a token sees: the middle of 1024
AIM = 4500  # tokens/s
# What passes from the end of one kernel's work to the start of the next one's: assumed, for a graph of plain launches
# and for one whose kernels overlap and find their weights in the L2 cache.
PLAIN, OVERLAPPED = 2.0e-6, 1.0e-6


def number_in(path, pattern):
    found = re.search(pattern, (ROOT / path).read_text())
    if not found:
        sys.exit(f"error: {path} has no {pattern}")
    return int(found[1])


V, C, L, H = (number_in("engine/model/config.h", rf"int {name} = (\d+);")
              for name in ("vocab_size", "n_embd", "n_layer", "n_head"))
MOST_WARPS = number_in("kernels/cuda/matvec.cuh", r"int kMostWarps = (\d+);")
REACH = 32 * number_in("kernels/cuda/matvec.cuh", r"int kPart = (\d+);")
OUTPUTS = number_in("kernels/cuda/matvec_mma.cu", r"int kOutputs = (\d+);")
CHUNK_WARPS = number_in("kernels/cuda/attention_cached.cu", r"int kChunkWarps = (\d+);")
CHUNK = number_in("kernels/cuda/attention_rows.cuh", r"int kChunk = (\d+);")


def up(number, step):
    return -(-number // step)


def product(name, launches, k, n):
    """A kernel of matvec_mma.cu."""
    steps = up(k, REACH)
    warps = up(steps, up(steps, MOST_WARPS))
    return dict(name=name, launches=launches, shape=f"{k:,} × {n:,}", blocks=up(n, OUTPUTS), threads=32 * warps,
                loads=REACH * OUTPUTS * 2 // 16 // 32, bytes=2 * k * n)


def plan():
    chunks = up(CONTEXT, CHUNK)
    other = dict(blocks=1, threads=256, loads=None, bytes=2 * 4 * C)
    return [dict(other, name="embedding, layernorm", launches=2, shape=f"{C}"),
            product("layernorm · c_attn", L, C, 3 * C),
            dict(name="attention", launches=L, shape=f"{CONTEXT} slots × {2 * C:,}", blocks=H * chunks,
                 threads=32 * CHUNK_WARPS, loads=2 * CHUNK * (C // H) * 2 // 16 // 32 // CHUNK_WARPS,
                 bytes=2 * 2 * CONTEXT * C),
            product("c_proj", L, C, C), product("layernorm · c_fc, GELU", L, C, 4 * C),
            product("c_proj of the MLP", L, 4 * C, C),
            dict(other, name="layernorm", launches=1, shape=f"{C}"), product("head", 1, C, V)]


def text_of(rows):
    lines = [f"| kernel | launches | K × N | blocks × threads | of {SMS} SMs | loads of 16 bytes under way, a thread | "
             "bytes, each | floor, all |", "|---" * 8 + "|"]
    for r in rows:
        lines.append(f"| {r['name']} | {r['launches']} | {r['shape']} | {r['blocks']:,} × {r['threads']} | "
                     f"{min(r['blocks'], SMS)} | {r['loads'] or ''} | {r['bytes'] / 1e6:.2f} MB | "
                     f"{r['launches'] * r['bytes'] / BANDWIDTH * 1e6:.1f} µs |")
    launches = sum(r["launches"] for r in rows)
    size = sum(r["launches"] * r["bytes"] for r in rows)
    floor = size / BANDWIDTH
    lines += ["",
              f"In all {launches} launches and {size / 1e6:.0f} MB: {floor * 1e6:.0f} µs at 3.35 TB/s. {AIM:,} tokens/s are "
              f"{1e6 / AIM:.0f} µs a token, so {(1 / AIM - floor) / launches * 1e6:.1f} µs are left for each launch: for what "
              f"lies between two kernels and for the way of the first loads. Assumed {PLAIN * 1e6:.0f} µs (plain launches of a "
              f"graph) it is {(floor + launches * PLAIN) * 1e6:.0f} µs a token, {1 / (floor + launches * PLAIN):,.0f} tokens/s; "
              f"assumed {OVERLAPPED * 1e6:.0f} µs (overlapped ones) {(floor + launches * OVERLAPPED) * 1e6:.0f} µs, "
              f"{1 / (floor + launches * OVERLAPPED):,.0f} tokens/s."]
    lines[-1] += "".join(measured()) or " Neither has been measured."
    return "\n".join(lines) + "\n"


def measured():
    for path in sorted(RESULTS.glob("*/models.json")):
        report = json.loads(path.read_text())
        for entry in report["benchmarks"]:
            if entry["name"] == "decode/gpt2/bfloat16/batch:1":
                yield (f" Measured on {report['card']}, 32 to 288 slots, the way of a token to the host and back included: "
                       f"{entry['real_time'] / 1e3:.0f} µs, {entry['items_per_second']:,.0f} tokens/s.")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", nargs="?", choices=("print", "write", "check"), default="print")
    command = parser.parse_args().command
    text = text_of(plan())
    if command == "print":
        print(text, end="")
        return
    before, begin, rest = README.read_text().partition(BEGIN)
    old, end, after = rest.partition(END)
    if not end:
        sys.exit(f"error: {README} has no marks of the plan")
    if command == "write":
        README.write_text(before + begin + text + end + after)
    elif old != text:
        sys.exit(f"error: {README} holds another plan: scripts/decode_plan.py write")


main()
