"""What tiktoken and Hugging Face tokenizers reach on one thread of this CPU: a child of peers.py.

    peer_tokenizers.py tiktoken|tokenizers --vocabulary DIR --prose FILE --mix FILE --seconds S

DIR holds GPT-2's vocab.json and merges.txt. Prints the lines of peer_torch.py with the names of
`quire bench tokenizer`; items are bytes of text. tiktoken's ranks are the ids of vocab.json: nothing is downloaded.
"""
import argparse
import json
import os
import resource
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
import tiktoken
import tokenizers

PATTERN = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""


def byte_of_character():
    """The printable stand-ins of bytes that vocab.json is written in."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(b): b for b in plain} | {chr(256 + i): b for i, b in enumerate(others)}


def tiktoken_encoding(folder):
    byte = byte_of_character()
    with open(os.path.join(folder, "vocab.json"), encoding="utf-8") as file:
        ranks = {bytes(byte[c] for c in token): rank for token, rank in json.load(file).items()
                 if token != "<|endoftext|>"}
    return tiktoken.Encoding("peer", pat_str=PATTERN, mergeable_ranks=ranks,
                             special_tokens={"<|endoftext|>": len(ranks)})


def huggingface_tokenizer(folder):
    made = tokenizers.Tokenizer(tokenizers.models.BPE.from_file(os.path.join(folder, "vocab.json"),
                                                                os.path.join(folder, "merges.txt")))
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    return made


def train_huggingface(path):
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.train([path], tokenizers.trainers.BpeTrainer(
        vocab_size=8000, show_progress=False, special_tokens=["<|endoftext|>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet()))


def report(name, size, seconds, run):
    run()
    times, start = [], time.perf_counter()
    while len(times) < 3 or time.perf_counter() - start < seconds:
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    print(json.dumps({"name": name, "items": size, "seconds": times,
                      "versions": {"tiktoken": tiktoken.__version__, "tokenizers": tokenizers.__version__},
                      "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}), flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("peer", choices=["tiktoken", "tokenizers"])
    parser.add_argument("--vocabulary", required=True)
    parser.add_argument("--prose", required=True)
    parser.add_argument("--mix", required=True)
    parser.add_argument("--seconds", type=float, required=True)
    o = parser.parse_args()
    make = tiktoken_encoding if o.peer == "tiktoken" else huggingface_tokenizer
    encoder = make(o.vocabulary)
    report("load", os.path.getsize(os.path.join(o.vocabulary, "vocab.json")), o.seconds, lambda: make(o.vocabulary))
    for kind in ("prose", "mix"):
        with open(getattr(o, kind), encoding="utf-8", newline="") as file:
            text = file.read()
        size = len(text.encode())
        encode = encoder.encode_ordinary if o.peer == "tiktoken" else (lambda text: encoder.encode(text).ids)
        report(f"encode/{kind}", size, o.seconds, lambda: encode(text))
        ids = encode(text)
        report(f"decode/{kind}", size, o.seconds, lambda: encoder.decode(ids))
    if o.peer == "tokenizers":
        report("train/vocab:8000", os.path.getsize(o.prose), o.seconds, lambda: train_huggingface(o.prose))


main()
