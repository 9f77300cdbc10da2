"""Putting a challenge and a set on disk, the same bytes every time."""

import difflib
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bughunt_mutator import Mutant
from bughunt_mutator.operator import Operator
from bughunt_mutator.registry import load_operators

from bughunt import __version__
from bughunt.bugsets import symptom
from bughunt.bugsets.accepted import Accepted
from bughunt.bugsets.challenge import CURVES, FORMAT_VERSION, SEALED, Curves
from bughunt.bugsets.sealed import Sealed

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


def level(item: Accepted) -> int:
    """1 (seen at once) to 5 (only a targeted test sees it): the operators' marks and what was measured.

    A bug more makes it one harder than the hardest of them.
    """
    mark = max(operator_of(mutant).difficulty for mutant in item.mutants)
    measured = {"visible": 1, "deceptive": 3, "silent": 4}[item.label]
    if not item.curves.steps:  # nothing trains, so nothing was to be seen
        measured = 2
    return max(1, min(5, round((mark + measured) / 2) + len(item.mutants) - 1))


def described(
    item: Accepted, seed: int, titles: set[str]
) -> tuple[dict[str, Any], Mapping[str, str], str, Curves, Sealed]:
    """What is written of a challenge, under a title that is not yet among the others."""
    task, curves = item.reference.task, item.curves
    metrics = (curves.reference_metric, curves.broken_metric)
    runs = (curves.reference, curves.broken)
    told = {symptom.title(task, item.label, *runs, [test]): test for test in item.failed}
    title = next((one for one in told if one not in titles), next(iter(told)))
    titles.add(title)
    fields = {
        "title": title,
        "reference": item.reference.slug,
        "configuration": item.configuration,
        "level": level(item),
        "minutes": (5 + 5 * level(item)) * len(item.mutants),
        "metric": task.metric_name,
        "curve": task.curve_name,
        "steps": task.steps,
        "tests": len(item.failed) + len(item.passed),
        "bugs": len(item.mutants),
    }
    telling = [told[title], *(test for test in item.failed if test != told[title])]
    text = symptom.brief(task, item.label, *runs, metrics, telling, len(item.mutants))
    return fields, item.broken, text, curves, sealed(item, seed)


def sealed(item: Accepted, seed: int) -> Sealed:
    """What goes behind the seal, with the operators' essays filled in for these sites."""
    operators = [operator_of(mutant) for mutant in item.mutants]
    return Sealed(
        reference=item.reference.slug,
        operators=[mutant.operator for mutant in item.mutants],
        rows=[mutant.row for mutant in item.mutants],
        category=operators[0].category,
        hints=hints(item.mutants),
        post_mortem=post_mortem(item),
        evidence=list(dict.fromkeys(address for operator in operators for address in operator.evidence)),
        repaired=dict(item.repaired),
        where=[f"{mutant.path}:{mutant.scope}" for mutant in item.mutants],
        fail_to_pass=list(item.failed),
        pass_to_pass=list(item.passed),
        seeds=list(item.curves.seeds),
        label=item.label,
        provenance={
            "seed": seed,
            "bughunt": __version__,
            "bugs": [_origin(mutant) for mutant in item.mutants],
            "rewrites": dict(item.rewrites or {}),
        },
        own_tests=[list(tests) for tests in item.own],
        alone=[dict(files) for files in item.alone],
    )


def _origin(mutant: Mutant) -> dict[str, Any]:
    """What is needed to write the mutant into its reference again."""
    return {
        "key": mutant.key,
        "operator": mutant.operator,
        "row": mutant.row,
        "path": mutant.path,
        "scope": mutant.scope,
        "line": mutant.line,
        "edits": [edit.shown() for edit in mutant.edits],
        "params": dict(mutant.params),
    }


def hints(mutants: Sequence[Mutant]) -> list[str]:
    """Three rungs; where there are several bugs, each rung speaks of all of them."""
    rungs = [_rungs(mutant) for mutant in mutants]
    if len(rungs) == 1:
        return rungs[0]
    return [" ".join(f"({n}) {hint}" for n, hint in enumerate(same, 1)) for same in zip(*rungs, strict=True)]


def _rungs(mutant: Mutant) -> list[str]:
    function = mutant.scope.rsplit(".", 1)[-1] or "the module"
    return [RUNG.sub("", hint) for hint in operator_of(mutant).hints_in(function)]


def post_mortem(item: Accepted) -> str:
    """The essay that `explain` shows: the repair as a diff, why it shows so, which checks see it."""
    operators = [operator_of(mutant) for mutant in item.mutants]
    diffs = [_diff(item, path) for path in sorted({mutant.path for mutant in item.mutants})]
    what = [f"`{m.row}`. {one.mechanism}" for m, one in zip(item.mutants, operators, strict=True)]
    curve = f" In the curve: {item.label}." if item.curves.steps else ""
    parts = [
        f"**What it was.** {_listed(what)}",
        "```diff\n" + "\n".join(diffs) + "\n```",
        f"**How it shows.** {_listed([one.symptom for one in operators])}{curve}",
        f"**Repair.** {_listed([one.repair for one in operators])}",
        "**Checks that see it.** " + "; ".join(symptom.sentence(name) for name in item.failed) + ".",
    ]
    return "\n\n".join(parts) + "\n"


def _listed(sentences: Sequence[str]) -> str:
    if len(sentences) == 1:
        return sentences[0]
    return " ".join(f"({number}) {sentence}" for number, sentence in enumerate(sentences, 1))


def _diff(item: Accepted, path: str) -> str:
    broken, repaired = item.broken[path].splitlines(), item.repaired[path].splitlines()
    names = ("broken", "repaired") if len(item.broken) == 1 else (f"broken/{path}", f"repaired/{path}")
    return "\n".join(difflib.unified_diff(broken, repaired, *names, lineterm="", n=2))


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
