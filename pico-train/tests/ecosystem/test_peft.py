"""peft adapts a checkpoint: an adapter is made, trained for a step, merged, saved and loaded again."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("peft", reason="peft is not installed: make test-ecosystem installs it")

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from pico_train import load_decoder


def test_an_adapter_is_trained_merged_saved_and_read_here_too(tmp_path: Path, checkpoint: Path) -> None:
    from peft import LoraConfig, PeftModel, get_peft_model

    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    batch = tokenizer(["a dog sees the cat", "two red trees"], padding=True, return_tensors="pt")
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    base = AutoModelForCausalLM.from_pretrained(checkpoint)
    before = base(**batch).logits.detach()
    adapted = get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"))
    assert torch.equal(adapted(**batch).logits, before)  # a new adapter adds nothing
    optimizer = torch.optim.AdamW((p for p in adapted.parameters() if p.requires_grad), lr=0.1)
    first = adapted(**batch, labels=labels).loss
    first.backward()
    optimizer.step()
    second = adapted(**batch, labels=labels).loss
    assert second < first
    after = adapted(**batch).logits.detach()
    adapted.save_pretrained(tmp_path / "adapter")
    again = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(checkpoint), tmp_path / "adapter")
    assert torch.equal(again(**batch).logits, after)
    merged = again.merge_and_unload()
    merged.save_pretrained(tmp_path / "merged")
    # Merging adds the product of two float32 matrices to a third: a few roundings of logits of magnitude 1.
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert torch.allclose(loaded(**batch).logits, after, rtol=1e-4, atol=1e-5)
    row = batch["input_ids"][:1]
    with torch.inference_mode():
        ours = load_decoder(tmp_path / "merged")(row)
    assert torch.allclose(ours, loaded(row).logits, rtol=1e-4, atol=1e-5)
