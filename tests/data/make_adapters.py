#!/usr/bin/env python3
"""Makes tests/data/adapters with PEFT: adapters of many kinds, and what PEFT computes with each.

    pip install torch transformers peft && python3 tests/data/make_adapters.py tests/data/adapters

Two bases of random weights, one with a tied head, and for each case an adapter that was drawn as PEFT
draws it, shaken (every trainable number + N(0, 0.2)), saved, and loaded again as
PeftModel.from_pretrained() loads it. expected.json has that model's logits at the last two of the ids
0 … 5. The files that lie here were made with torch 2.15.0, transformers 5.24.0 and peft 0.21.2.
"""

import json
import pathlib
import sys

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import GPT2Config, GPT2LMHeadModel

CASES = {
    "rank_alpha-tied": dict(
        target_modules=["c_attn", "c_proj", "c_fc"],
        rank_pattern={"h.1.attn.c_attn": 2, "mlp.c_proj": 5},
        alpha_pattern={"^transformer.h.0.attn.c_attn": 7, "c_fc": 1}),
    "rank_rslora-untied": dict(target_modules=["c_attn"], rank_pattern={"h.1.attn.c_attn": 2},
                               use_rslora=True),
    "regex-tied": dict(target_modules=r".*\.(0|1)\.mlp\.c_(fc|proj)"),
    "exclude-tied": dict(target_modules=["c_attn", "c_proj"], exclude_modules=["h.0.attn.c_proj"]),
    "exclude_regex-untied": dict(target_modules=["c_attn", "c_proj"], exclude_modules=r".*mlp.*"),
    "layers-tied": dict(target_modules=["c_attn"], layers_to_transform=[1], layers_pattern="h"),
    "bias_all-tied": dict(target_modules=["c_attn"], bias="all"),
    "bias_lora-untied": dict(target_modules=["c_attn"], bias="lora_only"),
    "save_head-tied": dict(target_modules=["c_attn"], modules_to_save=["lm_head"]),
    "save_wte-tied": dict(target_modules=["c_attn"], modules_to_save=["wte"]),
    "save_ln-untied": dict(target_modules=["c_attn"], modules_to_save=["ln_f", "wpe"]),
    "dora-tied": dict(target_modules=["c_attn", "c_fc"], use_dora=True),
    "dora_head-untied": dict(target_modules=["c_attn", "lm_head"], use_dora=True),
    "wte-tied": dict(target_modules=["c_attn", "wte"]),
    "wpe-untied": dict(target_modules=["wpe"]),
    "head-tied": dict(target_modules=["lm_head", "c_attn"]),
    "lora_bias-tied": dict(target_modules=["c_attn"], lora_bias=True),
    "pissa-tied": dict(target_modules=["c_attn", "c_fc"], init_lora_weights="pissa"),
    "olora-tied": dict(target_modules=["attn.c_proj"], init_lora_weights="olora"),
}


def main():
    folder = pathlib.Path(sys.argv[1])
    for tied in (True, False):
        torch.manual_seed(0)
        model = GPT2LMHeadModel(GPT2Config(
            vocab_size=23, n_positions=16, n_embd=8, n_layer=2, n_head=2, n_inner=12,
            bos_token_id=0, eos_token_id=1, tie_word_embeddings=tied))
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        model.save_pretrained(folder / f"base-{'tied' if tied else 'untied'}")
    expected = {}
    for name, options in CASES.items():
        base = folder / f"base-{name.split('-')[1]}"
        torch.manual_seed(1)
        model = get_peft_model(GPT2LMHeadModel.from_pretrained(base), LoraConfig(
            task_type="CAUSAL_LM", r=3, lora_alpha=4, fan_in_fan_out=True, **options))
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data.add_(torch.randn_like(parameter) * 0.2)
        model.save_pretrained(folder / name)
        (folder / name / "README.md").unlink()
        path = folder / name / "adapter_config.json"
        config = json.loads(path.read_text()) | {"base_model_name_or_path": f"../{base.name}"}
        path.write_text(json.dumps({k: v for k, v in config.items() if v is not None}, indent=1) + "\n")
        loaded = PeftModel.from_pretrained(GPT2LMHeadModel.from_pretrained(base), folder / name)
        with torch.no_grad():
            logits = loaded.eval()(torch.arange(6)[None]).logits[0, -2:]
        expected[name] = [float(f"{x:.9g}") for x in logits.flatten().tolist()]
    lines = ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in expected.items())
    (folder / "expected.json").write_text("{" + lines + "}\n")


if __name__ == "__main__":
    main()
