"""What torch and transformers reach on this CPU, beside `quire bench`.

Usage: peers_cpu.py [train|generate|all] [--threads N] [--seconds S] [--bf16]

Needs torch and transformers. Prints one JSON object a line: {"name", "items_per_second", …}, with the names
of quire's own entries, so that the two can be laid side by side. A random-weight GPT-2 124M in float32,
as `quire bench` uses; with --bf16 it trains under autocast, beside `quire bench train --bf16`.
"""
import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time

os.environ["HF_HUB_OFFLINE"] = "1"
import torch
import transformers


def model():
    torch.manual_seed(1)
    config = transformers.GPT2Config(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
    return transformers.GPT2LMHeadModel(config)


def timed(run, seconds, least=5):
    run()
    times, start = [], time.perf_counter()
    while len(times) < least or time.perf_counter() - start < seconds:
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return times


def report(name, items, times, **more):
    median = statistics.median(times)
    print(json.dumps({"name": name, "items_per_second": items / median, "median_ms": median * 1e3,
                      "best_items_per_second": items / min(times), "iterations": len(times),
                      "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
                      "torch": torch.__version__, "transformers": transformers.__version__, **more}),
          flush=True)


def train(batch, length, seconds, bf16):
    m = model().train()
    optimizer = torch.optim.AdamW(m.parameters(), lr=1e-4, fused=True)
    ids = torch.randint(0, 50257, (batch, length))

    def step():
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = m(ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(m.parameters(), 1.0)
        optimizer.step()

    report(f"train/gpt2/batch:{batch}/length:{length}", batch * length, timed(step, seconds),
           optimizer="fused AdamW", products="bfloat16" if bf16 else "float32")


@torch.no_grad()
def generate(seconds):
    m = model().eval()
    for batch in (1, 8):
        times = []
        start = time.perf_counter()
        while time.perf_counter() - start < seconds or len(times) < 10:
            ids = torch.randint(0, 50257, (batch, 32))
            out = m(ids, use_cache=True)
            for _ in range(64):
                begin = time.perf_counter()
                nxt = out.logits[:, -1].argmax(-1, keepdim=True)
                out = m(nxt, past_key_values=out.past_key_values, use_cache=True)
                times.append(time.perf_counter() - begin)
        report(f"decode/gpt2/float32/batch:{batch}", batch, times)
    for kind, length in (("prefill", 512), ("first_token", 32)):
        ids = torch.randint(0, 50257, (1, length))
        run = lambda: m(ids, use_cache=True, logits_to_keep=1)
        report(f"{kind}/gpt2/float32/length:{length}", length, timed(run, seconds))
    ids = torch.randint(0, 50257, (1, 32))
    run = lambda: m.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=64, min_new_tokens=64,
                             do_sample=False, pad_token_id=50256)
    report("generate/gpt2/float32/batch:1", 64, timed(run, seconds, least=3))


def main():
    a = argparse.ArgumentParser()
    a.add_argument("what", nargs="?", default="all", choices=["train", "generate", "all", "case"])
    a.add_argument("case", nargs="*", type=int)
    a.add_argument("--threads", type=int, default=os.cpu_count())
    a.add_argument("--seconds", type=float, default=5.0)
    a.add_argument("--bf16", action="store_true")
    o = a.parse_args()
    torch.set_num_threads(o.threads)
    if o.what == "case":
        train(o.case[0], o.case[1], o.seconds, o.bf16)
    if o.what in ("train", "all"):
        for batch, length in ((4, 64), (4, 256)):  # a process each: peak memory is the process's
            subprocess.run([sys.executable, __file__, "case", str(batch), str(length), "--threads",
                            str(o.threads), "--seconds", str(o.seconds)] + ["--bf16"] * o.bf16, check=True)
    if o.what in ("generate", "all"):
        generate(o.seconds)


main()
