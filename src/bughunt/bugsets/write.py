"""Putting a challenge and a set on disk, the same bytes every time."""

import difflib
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bughunt_mutator import Mutant
from bughunt_mutator.operator import Operator
from bughunt_mutator.registry import load_operators

from bughunt import __version__
from bughunt.bugsets import symptom
from bughunt.bugsets.challenge import CURVES, FORMAT_VERSION, SEALED, Curves, Sealed
from bughunt.references import Reference

if TYPE_CHECKING:
    from bughunt.bugsets.generate import Accepted


RUNG = re.compile(r"^(LOOK|WHERE|WHAT):? +")  # the screen names the rung itself


def operator_of(mutant: Mutant) -> Operator:
    return load_operators()[mutant.operator]


def challenge(
    parent: Path,
    fields: Mapping[str, Any],
    program: Mapping[str, str],
    brief: str,
    curves: Curves,
    sealed: Sealed,
) -> str:
    """Write one challenge folder under `parent` and return its id."""
    id_ = identity(fields["reference"], fields["configuration"], program)
    folder = parent / id_
    folder.mkdir()
    for path, text in program.items():
        _text(folder / path, text)
    _text(folder / "brief.md", brief)
    _text(folder / CURVES, json.dumps(asdict(curves), sort_keys=True) + "\n")
    (folder / SEALED).write_bytes(sealed.dump())
    head = {"format_version": FORMAT_VERSION, "id": id_}
    _text(folder / "challenge.toml", toml({**head, **fields}))
    return id_


def identity(reference: str, configuration: str, program: Mapping[str, str]) -> str:
    """`bh-` and six hex digits of what the challenge consists of."""
    others = [part for path in sorted(program) if path != "train.py" for part in (path, program[path])]
    content = "\0".join([reference, configuration, program["train.py"], *others])
    return "bh-" + hashlib.sha256(content.encode()).hexdigest()[:6]


def bugset(folder: Path, name: str, ids: Sequence[str], seed: int, version: str) -> None:
    fields = {
        "title": name.replace("-", " ").capitalize(),
        "format_version": FORMAT_VERSION,
        "made_by": f"bughunt {version}",
        "seed": seed,
        "challenges": list(ids),
    }
    _text(folder / "set.toml", toml(fields))


def sealed(reference: Reference, mutant: Mutant, item: "Accepted", seed: int) -> Sealed:
    """What goes behind the seal, with the operator's essay filled in for this site."""
    operator = operator_of(mutant)
    function = mutant.scope.rsplit(".", 1)[-1] or "the module"
    return Sealed(
        reference=reference.slug,
        operators=[mutant.operator],
        rows=[mutant.row],
        category=operator.category,
        hints=[RUNG.sub("", hint) for hint in operator.hints_in(function)],
        post_mortem=post_mortem(operator, item),
        evidence=list(operator.evidence),
        repaired=dict(item.repaired),
        where=[f"{mutant.path}:{mutant.scope}"],
        fail_to_pass=list(item.failed),
        pass_to_pass=list(item.passed),
        seeds=list(item.curves.seeds),
        label=item.label,
        provenance={
            "key": mutant.key,
            "seed": seed,
            "bughunt": __version__,
            "edits": [edit.shown() for edit in mutant.edits],
            "params": dict(mutant.params),
        },
    )


def post_mortem(operator: Operator, item: "Accepted") -> str:
    """The essay that `explain` shows: the repair as a diff, why it shows so, which checks see it."""
    path = item.mutant.path
    broken, repaired = item.broken[path].splitlines(), item.repaired[path].splitlines()
    names = ("broken", "repaired") if len(item.broken) == 1 else (f"broken/{path}", f"repaired/{path}")
    diff = difflib.unified_diff(broken, repaired, *names, lineterm="", n=2)
    parts = [
        f"**What it was.** `{item.mutant.row}`. {operator.mechanism}",
        "```diff\n" + "\n".join(diff) + "\n```",
        f"**How it shows.** {operator.symptom}"
        + (f" In the curve: {item.label}." if item.curves.steps else ""),
        f"**Repair.** {operator.repair}",
        "**Checks that see it.** " + "; ".join(symptom.sentence(name) for name in item.failed) + ".",
    ]
    return "\n\n".join(parts) + "\n"


def toml(fields: Mapping[str, Any]) -> str:
    """A flat table; a value that is None is left out. JSON strings and arrays are TOML strings and arrays."""
    rows = [f"{key} = {_value(value)}" for key, value in fields.items() if value is not None]
    return "\n".join(rows) + "\n"


def _value(value: Any) -> str:
    if isinstance(value, list | tuple) and value:
        return "[\n" + "".join(f"    {_value(part)},\n" for part in value) + "]"
    return json.dumps(value, ensure_ascii=False)


def _text(path: Path, text: str) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        file.write(text)
