"""What tiktoken and Hugging Face tokenizers reach on this CPU, beside `quire bench tokenizer`.

Usage: peers_tokenizer.py --tokenizer DIR --prose FILE --mix FILE [--seconds S]

DIR holds GPT-2's vocab.json and merges.txt; give quire the same three. Needs tiktoken and tokenizers. One
thread. Prints one JSON object a line, with the names of quire's own entries. "cold" is the first call on a
fresh encoder: tiktoken keeps nothing between calls, so that it has no such line.
"""
import argparse
import json
import os
import statistics
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


def report(peer, name, size, seconds, run):
    run()
    times, start = [], time.perf_counter()
    while len(times) < 3 or time.perf_counter() - start < seconds:
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    print(json.dumps({"peer": peer, "name": name, "bytes_per_second": size / statistics.median(times),
                      "best_bytes_per_second": size / min(times), "iterations": len(times),
                      "median_ms": statistics.median(times) * 1e3}), flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--prose", required=True)
    parser.add_argument("--mix", required=True)
    parser.add_argument("--seconds", type=float, default=1.0)
    arguments = parser.parse_args()
    peers = {f"tiktoken {tiktoken.__version__}": tiktoken_encoding(arguments.tokenizer),
             f"tokenizers {tokenizers.__version__}": huggingface_tokenizer(arguments.tokenizer)}
    for entry in ("prose", "mix"):
        with open(getattr(arguments, entry), encoding="utf-8", newline="") as file:
            text = file.read()
        size = len(text.encode())
        for peer, encoder in peers.items():
            encode = encoder.encode_ordinary if peer.startswith("tiktoken") else encoder.encode
            report(peer, f"encode/{entry}", size, arguments.seconds, lambda: encode(text))
            ids = encode(text)
            ids = ids if isinstance(ids, list) else ids.ids
            report(peer, f"decode/{entry}", size, arguments.seconds, lambda: encoder.decode(ids))
        if entry == "prose":
            report(f"tokenizers {tokenizers.__version__}", "train/vocab:8000", size, arguments.seconds,
                   lambda: train_huggingface(arguments.prose))


if __name__ == "__main__":
    main()
