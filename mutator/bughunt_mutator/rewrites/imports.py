"""Imports: how a file gets at a name, and so how it writes it."""

from __future__ import annotations

import builtins
from collections.abc import Iterator

import libcst as cst

from bughunt_mutator.aliases import dotted
from bughunt_mutator.edit import Edit
from bughunt_mutator.operator import Example
from bughunt_mutator.rewrite import NAMES, Change, rewrite
from bughunt_mutator.rewrites.look import is_line, view
from bughunt_mutator.source import SourceFile

HOMES = frozenset({"torch", "torch.nn", "torch.nn.functional", "math", "numpy"})
WIDTH = 104


@rewrite(
    "import-style",
    cst.ImportFrom,
    cst.Import,
    turn=NAMES,
    odds=0.5,
    examples=(
        Example("from torch.nn import functional as F\n", ("import torch.nn.functional as F\n",)),
        Example("import torch.nn.functional as F\n", ("from torch.nn import functional as F\n",)),
        Example("from torch import nn\n", ("import torch.nn as nn\n",)),
    ),
    counterexamples=(
        "from torch import Tensor, nn\n",
        "import torch\n",
        "from torch import Tensor\n",
        "from . import functional as F\n",
    ),
)
def import_style(file: SourceFile, node: cst.CSTNode) -> Iterator[Change]:
    """A module imported by `import ... as` or from its package."""
    if isinstance(node, cst.Import) and len(node.names) == 1 and node.names[0].asname is not None:
        full, name = dotted(node.names[0].name), dotted(node.names[0].asname.name)
        home, _, last = full.rpartition(".")
        if home in HOMES:
            yield Change(
                (
                    file.edit(
                        *file.index.span(node),
                        f"from {home} import {last}" + (f" as {name}" if name != last else ""),
                    ),
                )
            )
    elif (
        isinstance(node, cst.ImportFrom)
        and (one := _only_alias(node)) is not None
        and node.module is not None
    ):
        full = f"{dotted(node.module)}.{dotted(one.name)}"
        if full in HOMES:
            name = dotted(one.asname.name) if one.asname else dotted(one.name)
            yield Change((file.edit(*file.index.span(node), f"import {full} as {name}"),))


def _only_alias(node: cst.ImportFrom) -> cst.ImportAlias | None:
    """The one name that a statement imports from another package."""
    if isinstance(node.names, cst.ImportStar) or node.relative or len(node.names) != 1:
        return None
    return node.names[0]


@rewrite(
    "qualified-name",
    cst.ImportFrom,
    turn=NAMES,
    odds=0.6,
    examples=(
        Example(
            "import torch\nfrom torch import Tensor, nn\ndef f(x: Tensor) -> Tensor:\n"
            "    return nn.Linear(x)\n",
            (
                "import torch\nfrom torch import nn\ndef f(x: torch.Tensor) -> torch.Tensor:\n"
                "    return nn.Linear(x)\n",
                "import torch\nfrom torch import Tensor\ndef f(x: Tensor) -> Tensor:\n"
                "    return torch.nn.Linear(x)\n",
            ),
        ),
        Example(
            "from torch import nn\nfrom torch.nn import functional as F\ny = nn.Linear(F.relu(x))\n",
            ("from torch import nn\ny = nn.Linear(nn.functional.relu(x))\n",),
        ),
    ),
    counterexamples=(
        "from torch import Tensor\ny = Tensor(x)\n",
        'import torch\nfrom torch import Tensor\ny: "Tensor" = x\n',
        "import torch\nfrom torch import Tensor\nTensor = 3\n",
    ),
)
def qualified_name(file: SourceFile, node: cst.ImportFrom) -> Iterator[Change]:
    """An imported name written out in full, where another import leads to it."""
    if isinstance(node.names, cst.ImportStar) or not is_line(file.parent[node]) or node.lpar:
        return
    for alias in node.names:
        name = dotted(alias.asname.name) if alias.asname else dotted(alias.name)
        full = file.aliases.table.get(name, "")
        if full.rpartition(".")[0] not in HOMES:
            continue
        spelled = _spelled(file, full, name)
        found = [use for use, _ in view(file).names.uses if use.value == name and not _imports(file, use)]
        if (
            spelled is None
            or not found
            or _is_quoted(file, name)
            or not _have_room(file, found, len(spelled) - len(name))
        ):
            continue
        edits = [file.edit(*file.index.span(use), spelled) for use in found]
        yield Change((_without(file, node, alias), *edits), frozenset({name}))


def _spelled(file: SourceFile, full: str, name: str) -> str | None:
    """How a full name is written without one of the names that lead to it."""
    others = [
        other + full[len(target) :]
        for other, target in file.aliases.table.items()
        if other != name and full.startswith(f"{target}.")
    ]
    return min(others, key=lambda text: (text.count("."), text), default=None)


def _imports(file: SourceFile, use: cst.Name) -> bool:
    return isinstance(file.parent[use], cst.ImportAlias | cst.AsName | cst.Import | cst.ImportFrom)


def _is_quoted(file: SourceFile, name: str) -> bool:
    return any(isinstance(n, cst.SimpleString) and n.value.strip("\"'").startswith(name) for n in file.order)


def _have_room(file: SourceFile, found: list[cst.Name], more: int) -> bool:
    """Whether the lines of these names stay short enough."""
    per_line: dict[int, int] = {}
    for use in found:
        start = file.source.rfind("\n", 0, file.index.span(use)[0]) + 1
        per_line[start] = per_line.get(start, 0) + more
    return all(
        len(file.source[start:].split("\n", 1)[0]) + grown <= WIDTH for start, grown in per_line.items()
    )


def _without(file: SourceFile, node: cst.ImportFrom, alias: cst.ImportAlias) -> Edit:
    names = [file.text(each).rstrip(", ") for each in node.names if each is not alias]  # type: ignore[union-attr]
    if not names:
        line = file.parent[node]
        return file.edit(*file.outer[line], "")
    assert node.module is not None
    return file.edit(*file.index.span(node), f"from {dotted(node.module)} import {', '.join(names)}")


@rewrite(
    "imported-functions",
    cst.Import,
    turn=NAMES,
    odds=0.5,
    examples=(
        Example(
            "import math\ny = math.sqrt(2) * math.pi + math.sqrt(3)\n",
            ("from math import pi, sqrt\ny = sqrt(2) * pi + sqrt(3)\n",),
        ),
    ),
    counterexamples=(
        "import math\nsqrt = 3\ny = math.sqrt(2)\n",
        "import math\nf(math)\n",
        "import math, os\ny = math.pi\n",
        "import torch\ny = torch.pi\n",
    ),
)
def imported_functions(file: SourceFile, node: cst.Import) -> Iterator[Change]:
    """The functions of `math` imported by name."""
    if len(node.names) != 1 or node.names[0].asname or dotted(node.names[0].name) != "math":
        return
    if file.aliases.table.get("math") != "math":
        return
    found = [use for use, _ in view(file).names.uses if use.value == "math" and not _imports(file, use)]
    above = [file.parent[use] for use in found]
    if not found or not all(isinstance(each, cst.Attribute) for each in above):
        return
    names = {each.attr.value for each in above if isinstance(each, cst.Attribute)}
    taken = {use.value for use, _ in view(file).names.uses} | set(dir(builtins))
    if names & taken or len(names) > 5:
        return
    edits = [
        file.edit(*file.index.span(each), each.attr.value)
        for each in above
        if isinstance(each, cst.Attribute)
    ]
    line = file.edit(*file.index.span(node), f"from math import {', '.join(sorted(names))}")
    yield Change((line, *edits), frozenset({"math"}))
