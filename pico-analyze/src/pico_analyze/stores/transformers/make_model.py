"""The subprocess in which libraries make models: peft merges adapters, transformers reads GGUF.

``python -m pico_analyze.stores.transformers.make_model`` takes requests, lines of JSON on stdin, and answers each with
one (`{"error": null}`). It runs offline, opens no pickle unless that is in the request, runs no code beside weights,
and limits its own memory and core dumps. Weights are written as they are made: in float32, in one file.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from pathlib import Path
from typing import Any

_NOT_HERE = ("megatron_config", "auto_mapping", "eva_config", "loftq_config")
"""What a configuration of PEFT says so that further modules are imported, or data is read."""


def merged(base: Path, adapter: Path, out: Path, *, allow_pickle: bool) -> None:
    """Write the model of a base and an adapter.

    Raises:
        ValueError: the adapter needs what is not there.
    """
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    config = json.loads((adapter / "adapter_config.json").read_bytes())
    for name in _NOT_HERE:
        if config.get(name):
            raise ValueError(f"its adapter_config.json has {name}, which is not followed: merge it yourself")
    if not allow_pickle and not (adapter / "adapter_model.safetensors").is_file():
        raise ValueError("its adapter is a pickle")
    load: Any = AutoModelForCausalLM.from_pretrained
    model, about = load(
        base,
        dtype=torch.float32,
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
        output_loading_info=True,
    )
    if lost := sorted(map(str, about["missing_keys"])):
        raise ValueError(f"weights of the base are not in its files ({', '.join(lost[:3])})")
    attach: Any = PeftModel.from_pretrained
    adapted = attach(model, str(adapter), is_trainable=False)
    if not hasattr(adapted, "merge_and_unload"):
        raise ValueError(f"an adapter of kind {str(config.get('peft_type'))[:40]} changes no weights")
    adapted.merge_and_unload(safe_merge=True).save_pretrained(out, max_shard_size="100TB", safe_serialization=True)


def plain(file: Path, out: Path) -> None:
    """Write the model of a file of GGUF, dequantized."""
    import torch
    import transformers

    load: Any = transformers.AutoModelForCausalLM.from_pretrained
    config: Any = getattr(transformers, "GgufConfig", None)
    model, about = load(
        file.parent,
        gguf_file=file.name,
        dtype=torch.float32,
        local_files_only=True,
        output_loading_info=True,
        **({} if config is None else {"quantization_config": config(dequantize=True)}),  # older ones know no other way
    )
    if lost := sorted(map(str, about["missing_keys"])):
        raise ValueError(f"weights of the model are not in the file, as transformers reads it ({', '.join(lost[:3])})")
    model.save_pretrained(out, max_shard_size="100TB", safe_serialization=True)


def _limit(memory: int) -> None:
    used = 0
    status = Path("/proc/self/statm")
    if status.is_file():
        used = int(status.read_text().split()[0]) * resource.getpagesize()
    for what, amount in ((resource.RLIMIT_AS, used + memory), (resource.RLIMIT_CORE, 0)):
        _, hard = resource.getrlimit(what)
        resource.setrlimit(what, (amount if hard == resource.RLIM_INFINITY else min(amount, hard), hard))


def _sentence(error: BaseException) -> str:
    if isinstance(error, MemoryError) or "allocate" in str(error):
        return "it needs more memory than the limit allows"
    if isinstance(error, ImportError):
        return f"it needs {error.name or error}"
    return " ".join(str(error).split())[:300] or type(error).__name__


def _answered(request: dict[str, Any]) -> str | None:
    """What went wrong, or nothing."""
    try:
        import transformers

        log: Any = transformers.logging
        log.set_verbosity_error()
        _limit(request["memory"])
        out = Path(request["out"])
        if "gguf" in request:
            plain(Path(request["gguf"]), out)
        else:
            merged(Path(request["base"]), Path(request["adapter"]), out, allow_pickle=request["allow_pickle"])
    except Exception as problem:
        return _sentence(problem)
    return None


def main() -> None:
    """Answer requests until stdin ends."""
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    for line in sys.stdin:
        answer.write(json.dumps({"error": _answered(json.loads(line))}) + "\n")
        answer.flush()


if __name__ == "__main__":
    main()
