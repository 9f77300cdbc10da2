"""A folder of checkpoints with a register: the latest, and the few that scored best.

A file is complete or not there: it is written beside its place and moved. The register is moved last.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path

import torch


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file next to its place and move it there; what was there stays if the writing fails."""
    beside = path.with_suffix(".part")
    try:
        write(beside)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def save(path: Path, state: dict) -> None:
    replace_file(Path(path), lambda beside: torch.save(state, beside))


def load(path: Path) -> dict:
    """Tensors and plain values only: nothing in a file is run."""
    return torch.load(path, map_location="cpu", weights_only=True)


class Store:
    def __init__(self, folder: str, keep: int) -> None:
        self.folder, self.keep = Path(folder), keep
        self.folder.mkdir(parents=True, exist_ok=True)
        self.register = self.folder / "register.json"

    def entries(self) -> list[dict]:
        """`step`, `score` and `file` of every checkpoint, in order of the steps."""
        if not self.register.exists():
            return []
        return json.loads(self.register.read_text(encoding="utf-8"))

    def add(self, state: dict, score: float) -> None:
        """Keep a state; of the older ones only those with the lowest scores stay."""
        file = f"step-{state['step']:06d}.pt"
        save(self.folder / file, state)
        new = {"step": state["step"], "score": score, "file": file}
        older = [entry for entry in self.entries() if entry["step"] != state["step"]]
        best = sorted([*older, new], key=lambda entry: (entry["score"], entry["step"]))[: self.keep]
        kept = [entry for entry in [*older, new] if entry in best or entry is new]
        kept.sort(key=lambda entry: entry["step"])
        text = json.dumps(kept)
        replace_file(self.register, lambda beside: beside.write_text(text, encoding="utf-8"))
        for entry in older:
            if entry not in kept:
                (self.folder / entry["file"]).unlink(missing_ok=True)

    def latest(self) -> dict | None:
        """The state with most updates; None where there is none."""
        entries = self.entries()
        return load(self.folder / entries[-1]["file"]) if entries else None

    def best(self) -> dict | None:
        """The state with the lowest score, of equal ones the earlier."""
        entries = self.entries()
        if not entries:
            return None
        entry = min(entries, key=lambda entry: (entry["score"], entry["step"]))
        return load(self.folder / entry["file"])

    def clear(self) -> None:
        """Forget an earlier run."""
        self.register.unlink(missing_ok=True)
        for path in self.folder.glob("step-*.pt"):
            path.unlink()
