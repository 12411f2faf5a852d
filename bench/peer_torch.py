"""What torch and transformers reach on this CPU: a child of peers.py, in whose virtual environment it runs.

    peer_torch.py generate --model DIR --dtype float32|bfloat16 --seconds S --threads N
    peer_torch.py train --batch B --length T [--bf16] [--compile] --seconds S --threads N

What writes is the model of a folder, what trains a GPT-2 124M of random weights, as `quire bench train` has it; dropout is
off. Prints one JSON object a line: {"name", "items", "seconds": [of each run], "peak_memory_bytes", "versions"}, with the
names of works.
"""
import argparse
import json
import os
import resource
import time

os.environ["HF_HUB_OFFLINE"] = "1"
import torch
import transformers

VERSIONS = {"torch": torch.__version__, "transformers": transformers.__version__}


def model():
    torch.manual_seed(1)
    config = transformers.GPT2Config(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
    return transformers.GPT2LMHeadModel(config)


def timed(run, seconds, least):
    """Seconds of each run after one that is not counted."""
    run()
    times, start = [], time.perf_counter()
    while len(times) < least or time.perf_counter() - start < seconds:
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return times


def report(name, items, times):
    print(json.dumps({"name": name, "items": items, "seconds": times, "versions": VERSIONS,
                      "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}), flush=True)


def train(o):
    m = model().train()
    optimizer = torch.optim.AdamW(m.parameters(), lr=1e-4, fused=True)
    ids = torch.randint(0, m.config.vocab_size, (o.batch, o.length))
    forward = torch.compile(m) if o.compile else m

    def step():
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=o.bf16):
            loss = forward(ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(m.parameters(), 1.0)
        optimizer.step()

    dtype = "bfloat16" if o.bf16 else "float32"
    report(f"train/gpt2/{dtype}/batch:{o.batch}/length:{o.length}", o.batch * o.length, timed(step, o.seconds, 3))


@torch.no_grad()
def decode(m, batch, seconds):
    """Greedy tokens after a prompt of 32, 64 a pass, each timed alone."""
    times, start = [], time.perf_counter()
    while not times or time.perf_counter() - start < seconds:
        out = m(torch.randint(0, m.config.vocab_size, (batch, 32)), use_cache=True)
        for _ in range(64):
            begin = time.perf_counter()
            token = out.logits[:, -1].argmax(-1, keepdim=True)
            out = m(token, past_key_values=out.past_key_values, use_cache=True)
            times.append(time.perf_counter() - begin)
    return times


@torch.no_grad()
def generate(o):
    m = transformers.GPT2LMHeadModel.from_pretrained(o.model, dtype=getattr(torch, o.dtype)).eval()
    decode(m, 1, 0)  # caches and threads warm
    for batch in (1, 8):
        report(f"decode/gpt2/{o.dtype}/batch:{batch}", batch, decode(m, batch, o.seconds))
    for kind, length in (("prefill", 512), ("first_token", 32)):
        ids = torch.randint(0, m.config.vocab_size, (1, length))
        times = timed(lambda: m(ids, use_cache=True, logits_to_keep=1), o.seconds, 5)
        report(f"{kind}/gpt2/{o.dtype}/length:{length}", length, times)


def main():
    a = argparse.ArgumentParser()
    a.add_argument("what", choices=["generate", "train"])
    a.add_argument("--model")
    a.add_argument("--dtype", default="float32")
    a.add_argument("--batch", type=int)
    a.add_argument("--length", type=int)
    a.add_argument("--bf16", action="store_true")
    a.add_argument("--compile", action="store_true")
    a.add_argument("--seconds", type=float, required=True)
    a.add_argument("--threads", type=int, required=True)
    o = a.parse_args()
    torch.set_num_threads(o.threads)
    (generate if o.what == "generate" else train)(o)


main()
