"""What stands beside the player's program: its data, and a `run.py` that trains on them alone."""

import io
import json
from pathlib import Path
from typing import Any

from bughunt.bugsets.challenge import Challenge
from bughunt.files import write_bytes, write_text

TEMPLATE = Path(__file__).with_name("run_template.py")


def prepare(challenge: Challenge, folder: Path) -> None:
    """Write data.npz and run.py where they are missing; imports torch only then."""
    if (folder / "data.npz").exists() and (folder / "run.py").exists():
        return
    from bughunt import references

    task = references.load(challenge.reference).task
    seeds = challenge.curves().seeds
    data = task.data(seeds[0] if seeds else 0)
    settings = {
        "config": dict(task.configurations[challenge.configuration]),
        "rng": task.rng,
        "steps": task.steps,
    }
    write_bytes(folder / "data.npz", packed(data.train, settings))
    write_text(folder / "run.py", TEMPLATE.read_text(encoding="utf-8"))


def packed(value: Any, settings: dict[str, Any]) -> bytes:
    """A nested value of tensors, arrays and plain values as one .npz without pickles."""
    import numpy as np

    arrays: dict[str, Any] = {}
    structure = _structure(value, arrays)
    text = json.dumps({"data": structure, **settings})
    buffer = io.BytesIO()
    np.savez(buffer, structure=np.array(text), **arrays)
    return buffer.getvalue()


def _structure(value: Any, arrays: dict[str, Any]) -> dict[str, Any]:
    import numpy as np
    import torch

    if isinstance(value, torch.Tensor):
        dtype = str(value.dtype).removeprefix("torch.")
        plain = value.detach().cpu()
        plain = plain.float() if value.dtype is torch.bfloat16 else plain
        return {"kind": "tensor", "name": _add(plain.numpy(), arrays), "dtype": dtype}
    if isinstance(value, np.ndarray):
        return {"kind": "array", "name": _add(value, arrays)}
    if isinstance(value, np.generic):
        return {"kind": "value", "value": value.item()}
    if isinstance(value, dict):
        items = [[key, _structure(part, arrays)] for key, part in value.items()]
        return {"kind": "dict", "items": items}
    if isinstance(value, list | tuple):
        kind = "list" if isinstance(value, list) else "tuple"
        return {"kind": kind, "items": [_structure(part, arrays) for part in value]}
    return {"kind": "value", "value": value}


def _add(array: Any, arrays: dict[str, Any]) -> str:
    name = f"a{len(arrays)}"
    arrays[name] = array
    return name
