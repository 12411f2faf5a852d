#!/usr/bin/env python3
"""Makes the small reference set beside this script, with the real transformers and torch.

    python3 tests/data/make_small_set.py [FOLDER]

Two random models of a few kilobytes, each a folder that transformers loads (config.json,
model.safetensors), and beside the weights what transformers computes with them:

  forward.safetensors   ids, targets (already shifted, -100 = ignored), logits, loss, hidden.*
  grads.safetensors     the gradient of the loss for every parameter
  train.json            AdamW steps on this batch: loss and gradient norm before each
  steps.safetensors     samples of the parameters after some of the steps: stepN.sample.<name> is
                        the flattened tensor's elements 0, s, 2s, ... with s = max(1, size // 32) | 1
  padding.safetensors   sequences of several lengths, padded left and right: ids, mask, positions,
                        logits (zeros at padding)
  generation.jsonl      greedy generations: prompt_ids, kwargs, output_ids, min_gap; and beam searches, with
                        sequences_scores for min_gap, where float32 and float64 find the same texts
  tolerance.json        how far the same program in float32 lies from float64

Everything is computed in float64 and stored as float32. The models differ in what GPT-2's config
can vary: `tied` has a head size of 3 and an MLP of 20; `untied` has its own head, the erf form of
GELU and scores divided by the layer's number.
"""
import copy
import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import GPT2Config, GPT2LMHeadModel
from transformers.utils import logging

logging.set_verbosity_error()
STEPS, SAVED_STEPS = 6, (6,)
ADAMW = dict(lr=5e-4, betas=(0.9, 0.95), eps=1e-8)
WEIGHT_DECAY, CLIP_NORM = 0.1, 1.0

EOS = {"tied": 22, "untied": 21}  # tokens that the models like to write
COMMON = dict(n_layer=2, n_positions=16, initializer_range=0.3, resid_pdrop=0.1, embd_pdrop=0.1,
              attn_pdrop=0.1)
MODELS = {
    "tied": dict(n_embd=12, n_head=4, n_inner=20, vocab_size=40, bos_token_id=39, eos_token_id=39),
    "untied": dict(n_embd=8, n_head=2, vocab_size=29, bos_token_id=28, eos_token_id=28,
                   tie_word_embeddings=False, activation_function="gelu",
                   scale_attn_by_inverse_layer_idx=True),
}


def make_model(options):
    model = GPT2LMHeadModel(GPT2Config(**COMMON, **options)).eval()
    with torch.no_grad():  # fresh biases and layernorms are 0 and 1, which would hide mistakes
        for name, p in model.named_parameters():
            if p.dim() == 1:
                p.copy_(torch.randn_like(p) * 0.3 + (1.0 if "ln_" in name and "weight" in name else 0.0))
    return model


def loss_of(model, ids, targets):
    logits = model(ids).logits
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-100)


def forward(model, ids, targets):
    hidden = {}
    hooks = [model.transformer.drop.register_forward_hook(lambda m, i, o: hidden.update({"hidden.embed": o}))]
    for i, block in enumerate(model.transformer.h):
        def keep(m, args, out, i=i):
            hidden[f"hidden.block.{i}"] = out[0] if isinstance(out, tuple) else out
        hooks.append(block.register_forward_hook(keep))
    hooks.append(model.transformer.ln_f.register_forward_hook(lambda m, i, o: hidden.update({"hidden.final_ln": o})))
    with torch.no_grad():
        logits = model(ids).logits
        loss = loss_of(model, ids, targets)
    for hook in hooks:
        hook.remove()
    return {"logits": logits, "loss": loss.reshape(1), **hidden}


def gradients(model, ids, targets):
    model.zero_grad()
    loss_of(model, ids, targets).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters()}


def train(model, ids, targets):
    model = copy.deepcopy(model)
    decay = [p for p in model.parameters() if p.dim() >= 2]
    rest = [p for p in model.parameters() if p.dim() < 2]
    optimizer = torch.optim.AdamW([{"params": decay, "weight_decay": WEIGHT_DECAY},
                                   {"params": rest, "weight_decay": 0.0}], **ADAMW)
    losses, norms, saved = [], [], {}
    for step in range(1, STEPS + 1):
        optimizer.zero_grad()
        loss = loss_of(model, ids, targets)
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM).item())
        losses.append(loss.item())
        optimizer.step()
        if step in SAVED_STEPS:
            for name, p in model.named_parameters():
                saved[step, name] = p.detach().flatten()[:: max(1, p.numel() // 32) | 1].clone()
    return losses, norms, loss_of(model, ids, targets).item(), saved


def pad(model, sequences, side):
    width = max(len(s) for s in sequences)
    ids = torch.zeros(len(sequences), width, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, sequence in enumerate(sequences):
        begin = width - len(sequence) if side == "left" else 0
        ids[row, begin:begin + len(sequence)] = torch.tensor(sequence)
        mask[row, begin:begin + len(sequence)] = 1
    positions = (mask.cumsum(1) - 1).clamp(min=0) * mask
    with torch.no_grad():
        logits = model(ids, attention_mask=mask, position_ids=positions).logits * mask.unsqueeze(-1)
    return {f"{side}.ids": ids.int(), f"{side}.mask": mask.int(), f"{side}.positions": positions.int(),
            f"{side}.logits": logits}


def generations(model, vocab, eos):
    prompts = [[1, 5, 9], [7], [3, 3, 2, 8, 1, 4], [11, 2, 11, 2, 11]]
    cases = [(f"greedy-{i}", [p], dict(max_new_tokens=16 - len(p))) for i, p in enumerate(prompts)]
    cases += [(f"penalty-{i}", [p], dict(max_new_tokens=16 - len(p), repetition_penalty=1.4))
              for i, p in enumerate(prompts)]
    cases += [("batch", prompts, dict(max_new_tokens=8)),
              ("batch-penalty", prompts, dict(max_new_tokens=8, repetition_penalty=1.4)),
              ("eos", prompts, dict(max_new_tokens=8, eos_token_id=eos)),
              ("min-new-tokens", prompts, dict(max_new_tokens=8, min_new_tokens=4, eos_token_id=eos))]
    lines = []
    for name, rows, kwargs in cases:
        width, pad_id = max(map(len, rows)), vocab - 1
        ids = torch.tensor([[pad_id] * (width - len(r)) + r for r in rows])
        mask = torch.tensor([[0] * (width - len(r)) + [1] * len(r) for r in rows])
        out = model.generate(ids, attention_mask=mask, do_sample=False, pad_token_id=pad_id,
                             return_dict_in_generate=True, output_scores=True, **kwargs)
        # How clear the choices were, over the rows that still go on.
        gap, going = float("inf"), torch.ones(len(rows), dtype=torch.bool)
        for i, scores in enumerate(out.scores):
            best = scores.double().topk(2).values
            gap = min(gap, (best[:, 0] - best[:, 1])[going].min().item())
            going &= out.sequences[:, width + i] != kwargs.get("eos_token_id", pad_id)
            if not going.any():
                break
        assert gap > 1e-4, (name, gap)  # some fifty times what float32 does to these logits
        lines.append(json.dumps(dict(name=name, prompt_ids=rows, kwargs=dict(do_sample=False, pad_token_id=pad_id, **kwargs),
                                     output_ids=out.sequences.tolist(), min_gap=round(gap, 6))))
    return "\n".join(lines) + "\n"


def beam_searches(double, single, vocab, eos):
    prompts = [[1, 5, 9], [7], [3, 3, 2, 8, 1, 4]]
    cases = []
    for i, prompt in enumerate(prompts):
        for beams in (2, 3):
            for early_stopping in (True, False, "never"):
                for length_penalty in (-1.0, 1.0, 2.0):
                    cases.append((f"beam{beams}-{early_stopping}-{length_penalty}-{i}", [prompt],
                                  dict(num_beams=beams, early_stopping=early_stopping, num_return_sequences=beams,
                                       length_penalty=length_penalty, max_new_tokens=8, eos_token_id=eos)))
    cases += [("beam-batch", prompts, dict(num_beams=3, max_new_tokens=8, eos_token_id=eos)),
              ("beam-ngram", prompts, dict(num_beams=3, max_new_tokens=8, no_repeat_ngram_size=2)),
              ("beam-penalty", prompts, dict(num_beams=3, max_new_tokens=8, repetition_penalty=1.4)),
              ("beam-two-eos", prompts, dict(num_beams=3, max_new_tokens=8, eos_token_id=[eos, 1]))]
    lines = []
    for name, rows, kwargs in cases:
        width, pad_id = max(map(len, rows)), vocab - 1
        ids = torch.tensor([[pad_id] * (width - len(r)) + r for r in rows])
        mask = torch.tensor([[0] * (width - len(r)) + [1] * len(r) for r in rows])
        kwargs = dict(do_sample=False, pad_token_id=pad_id, **kwargs)
        out, out32 = (m.generate(ids, attention_mask=mask, return_dict_in_generate=True, output_scores=True, **kwargs)
                      for m in (double, single))
        if out.sequences.tolist() == out32.sequences.tolist():
            lines.append(json.dumps(dict(name=name, prompt_ids=rows, kwargs=kwargs, output_ids=out.sequences.tolist(),
                                         sequences_scores=out.sequences_scores.tolist())))
    return "\n".join(lines) + "\n"


def distance(a, b):
    return (a.double() - b.double()).abs().max().item()


def make(name, options, root):
    torch.manual_seed({"tied": 1, "untied": 2}[name])
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    single = make_model(options)
    double = copy.deepcopy(single).double()
    vocab = options["vocab_size"]

    ids = torch.randint(0, vocab, (2, 9))
    targets = torch.cat([ids[:, 1:], torch.randint(0, vocab, (2, 1))], 1)
    targets[0, 3] = targets[1, 8] = -100
    results, results32 = forward(double, ids, targets), forward(single, ids, targets)
    grads, grads32 = gradients(double, ids, targets), gradients(single, ids, targets)
    losses, norms, final, params = train(double, ids, targets)
    losses32, norms32, _, params32 = train(single, ids, targets)

    def store(file, tensors):
        kept = {n: (t.float() if t.is_floating_point() else t.int()).contiguous() for n, t in tensors.items()}
        save_file(kept, folder / file)

    config = single.config.to_diff_dict()
    config["architectures"] = ["GPT2LMHeadModel"]
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    state = {n: p.detach().clone() for n, p in single.named_parameters()}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    store("forward.safetensors", {"ids": ids, "targets": targets, **results})
    store("grads.safetensors", grads)
    store("steps.safetensors", {f"step{s}.sample.{n}": p for (s, n), p in params.items()})
    sequences = [torch.randint(0, vocab, (n,)).tolist() for n in (4, 7, 1)]
    store("padding.safetensors", {**pad(double, sequences, "left"), **pad(double, sequences, "right")})
    (folder / "generation.jsonl").write_text(generations(double, vocab, EOS[name]) +
                                             beam_searches(double, single, vocab, EOS[name]))
    (folder / "train.json").write_text(json.dumps(dict(
        lr=ADAMW["lr"], betas=ADAMW["betas"], eps=ADAMW["eps"], weight_decay=WEIGHT_DECAY, clip_norm=CLIP_NORM,
        loss_before_step=losses, grad_norm_before_clip=norms, loss_after_all_steps=final), indent=1) + "\n")

    tolerance = dict(
        logits=distance(results["logits"], results32["logits"]),
        loss=distance(results["loss"], results32["loss"]),
        max_abs_logit=results["logits"].abs().max().item(),
        hidden=[distance(results[f"hidden.block.{i}"], results32[f"hidden.block.{i}"]) for i in range(2)],
        grads={n: [distance(g, grads32[n]), g.abs().max().item()] for n, g in grads.items()},
        params={str(s): {n: distance(params[s, n], params32[s, n]) for n in grads} for s in SAVED_STEPS},
        loss_per_step=max(abs(a - b) for a, b in zip(losses, losses32)),
        grad_norm_per_step=max(abs(a - b) for a, b in zip(norms, norms32)))
    rounded = json.loads(json.dumps(tolerance), parse_float=lambda digits: float(f"{float(digits):.3g}"))
    (folder / "tolerance.json").write_text(json.dumps(rounded) + "\n")


def main():
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    torch.set_num_threads(1)
    for name, options in MODELS.items():
        make(name, options, root)


if __name__ == "__main__":
    main()
