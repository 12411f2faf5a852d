"""What llama.cpp reaches on this CPU, through llama-cpp-python: a child of peers.py.

    peer_llama.py generate --model FILE.gguf --dtype NAME --seconds S --threads N
    peer_llama.py start --model FILE.gguf --ids "15496 995 …" --threads N

`generate` prints the lines of peer_torch.py. `start` prints the time, on the clock that all processes of a machine
share, at which the imports were done and at which the first token was known.
"""
import argparse
import ctypes
import json
import resource
import time

import llama_cpp
import numpy

IMPORTED = time.monotonic()
VERSIONS = {"llama-cpp-python": llama_cpp.__version__}


@ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
def silent(level, text, data):
    pass


class Model:
    """The C interface, called as a C program would: no copies of logits, no sampler in Python."""

    def __init__(self, path, threads, context):
        llama_cpp.llama_log_set(silent, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        self.model = llama_cpp.llama_model_load_from_file(path.encode(), llama_cpp.llama_model_default_params())
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = params.n_batch = params.n_ubatch = context
        params.n_threads = params.n_threads_batch = threads
        self.context = llama_cpp.llama_init_from_model(self.model, params) if self.model else None
        if not self.context:
            raise SystemExit(f"error: llama.cpp does not load {path}")
        vocabulary = llama_cpp.llama_model_get_vocab(self.model)
        self.vocab_size = llama_cpp.llama_vocab_n_tokens(vocabulary)

    def reset(self):
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), False)

    def forward(self, ids):
        """The likeliest token after `ids`, which go behind what the cache holds."""
        tokens = (llama_cpp.llama_token * len(ids))(*ids)
        if llama_cpp.llama_decode(self.context, llama_cpp.llama_batch_get_one(tokens, len(ids))):
            raise SystemExit("error: llama_decode failed")
        logits = llama_cpp.llama_get_logits_ith(self.context, -1)
        return int(numpy.ctypeslib.as_array(logits, (self.vocab_size,)).argmax())


def report(name, items, times):
    print(json.dumps({"name": name, "items": items, "seconds": times, "versions": VERSIONS,
                      "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}), flush=True)


def prompt(random, model, length):
    return [int(i) for i in random.integers(0, model.vocab_size, length)]


def generate(o):
    model, random = Model(o.model, o.threads, 512), numpy.random.default_rng(1)
    times, start = [], None
    while start is None or time.perf_counter() - start < o.seconds:
        model.reset()
        token = model.forward(prompt(random, model, 32))
        passed = []
        for _ in range(64):
            begin = time.perf_counter()
            token = model.forward([token])
            passed.append(time.perf_counter() - begin)
        if start is None:  # the first pass reads the file
            start = time.perf_counter()
        else:
            times += passed
    report(f"decode/gpt2/{o.dtype}/batch:1", 1, times)
    for kind, length in (("prefill", 512), ("first_token", 32)):
        ids, times, start = prompt(random, model, length), [], None
        while start is None or len(times) < 5 or time.perf_counter() - start < o.seconds:
            model.reset()
            begin = time.perf_counter()
            model.forward(ids)
            if start is None:
                start = time.perf_counter()
            else:
                times.append(time.perf_counter() - begin)
        report(f"{kind}/gpt2/{o.dtype}/length:{length}", length, times)


def first_token(o):
    ids = [int(i) for i in o.ids.split()]
    Model(o.model, o.threads, 2 * len(ids)).forward(ids)
    print(json.dumps({"imported": IMPORTED, "first_token": time.monotonic(), "versions": VERSIONS}), flush=True)


def main():
    a = argparse.ArgumentParser()
    a.add_argument("what", choices=["generate", "start"])
    a.add_argument("--model", required=True)
    a.add_argument("--dtype")
    a.add_argument("--ids")
    a.add_argument("--seconds", type=float)
    a.add_argument("--threads", type=int, required=True)
    o = a.parse_args()
    generate(o) if o.what == "generate" else first_token(o)


main()
