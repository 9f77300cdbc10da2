"""Mistakes in random numbers: how strong noise is, and who draws which of it."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from bughunt_mutator.operator import Example, Proposal, operator
from bughunt_mutator.operators._look import binary, keyword, last_name, number, orphans
from bughunt_mutator.operators._look_parts import says
from bughunt_mutator.operators._sources import DEEP_CRIME, issue, pull
from bughunt_mutator.source import SourceFile

NOISES = ("noise", "jitter", "amount", "strength", "perturbation", "amplitude")


@operator(
    "noise-too-strong",
    cst.BinaryOperation,
    cst.Arg,
    category="data",
    difficulty=2,
    symptom="The model stays well below what it can reach, on training data too.",
    hints=(
        "LOOK: print the spread of an input before and after it is made noisy.",
        "WHERE: what `{function}` adds to the inputs.",
        "WHAT: can you still tell what the input was?",
    ),
    repair="Keep the noise small beside the signal.",
    mechanism=(
        "A little noise teaches a model not to mind small differences. Noise as large as the signal"
        " drowns it, and what is left cannot be told apart."
    ),
    evidence=(DEEP_CRIME,),
    examples=(
        Example(
            row="noise-too-strong",
            before="import torch\nx = x + 0.05 * torch.randn_like(x)\n",
            after=("import torch\nx = x + torch.randn_like(x)\n",),
        ),
        Example(
            before="import torch\nx += torch.randn(x.shape) * cfg.jitter\n",
            after=("import torch\nx += torch.randn(x.shape)\n",),
        ),
        Example(
            before="x = x + rng.normal(0.0, 0.02, x.shape)\n",
            after=("x = x + rng.normal(0.0, 1.0, x.shape)\n",),
        ),
    ),
    counterexamples=(
        "import torch\nw = 0.02 * torch.randn(3, 3)\n",
        "import torch\nz = mean + std * torch.randn_like(std)\n",
    ),
)
def noise_too_strong(f: SourceFile, node: cst.BinaryOperation | cst.Arg) -> Iterator[Proposal]:
    if isinstance(node, cst.Arg):
        call = f.parent.get(node)
        normal = isinstance(call, cst.Call) and last_name(call.func) == "normal"
        if normal and isinstance(call, cst.Call) and _is_added(f, call) and _is_small(node.value):
            yield from _at_full_scale(f, call, node)
        return
    sides = binary(node, cst.Multiply)
    if sides is None or not _is_added(f, node):
        return
    for factor, noise in (sides, sides[::-1]):
        random = isinstance(noise, cst.Call) and last_name(noise.func) in (
            "randn", "randn_like", "standard_normal", "normal",
        )  # fmt: skip
        if random and _is_small(factor) and not orphans(f, factor):
            yield Proposal(edits=(f.replace(node, f.text(noise)),))


def _at_full_scale(f: SourceFile, call: cst.Call, scale: cst.Arg) -> Iterator[Proposal]:
    if scale in (f.arg(call, "scale", 1), f.arg(call, "std", 1)):
        yield Proposal(edits=(f.replace(scale.value, "1.0"),))


def _is_small(node: cst.BaseExpression) -> bool:
    size = number(node)
    return says(node, *NOISES) if size is None else 0 < size < 0.8


def _is_added(f: SourceFile, node: cst.BaseExpression) -> bool:
    """Whether an expression is what is added to something."""
    above = f.parent.get(node)
    if isinstance(above, cst.AugAssign):
        return isinstance(above.operator, cst.AddAssign)
    return binary(above, cst.Add) is not None


@operator(
    "np-seed-duplicated-workers",
    cst.Call,
    category="data",
    difficulty=4,
    symptom="There is less variety in the training data than there should be; the loss shows nothing.",
    hints=(
        "LOOK: print the first random numbers that each worker draws.",
        "WHERE: where random numbers come from in `{function}`.",
        "WHAT: what distinguishes one worker from another?",
    ),
    repair="Give each worker a seed of its own.",
    mechanism=(
        "All workers start from the same random state and draw the same numbers. Each augmentation"
        " then appears as often as there are workers, and most of its variety is lost."
    ),
    evidence=(
        issue("pytorch/pytorch", 5059),
        issue("pytorch/pytorch", 3880),
        pull("pytorch/pytorch", 56488),
        issue("facebookresearch/fairseq", 1383),
        issue("xingyizhou/CenterNet", 233),
        "https://stackoverflow.com/questions/67180955",
    ),
    examples=(
        Example(
            row="np-seed-duplicated-workers",
            before="def start(worker):\n    np.random.seed(seed + worker)\n",
            after=("def start(worker):\n    np.random.seed(seed)\n",),
        ),
        Example(
            before="def start(worker_id):\n    return np.random.default_rng([7, worker_id])\n",
            after=("def start(worker_id):\n    return np.random.default_rng([7])\n",),
        ),
        Example(
            before=(
                "from torch.utils.data import DataLoader\n\n"
                "x = DataLoader(d, num_workers=4, worker_init_fn=start)\n"
            ),
            after=("from torch.utils.data import DataLoader\n\nx = DataLoader(d, num_workers=4)\n",),
        ),
    ),
    counterexamples=("rng = np.random.default_rng(seed)\n", "torch.manual_seed(seed + step)\n"),
)
def workers_alike(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    if f.qname(node.func) in ("torch.utils.data.DataLoader", "torch.utils.data.dataloader.DataLoader"):
        given = keyword(node, "worker_init_fn")
        if given is not None and not orphans(f, given.value):
            yield Proposal(edits=(f.delete_arg(node, given),))
        return
    if last_name(node.func) not in ("seed", "manual_seed", "default_rng", "RandomState", "Random"):
        return
    seed = node.args[0].value if node.args else None
    sides = binary(seed, cst.Add)
    if sides is not None and seed is not None:
        for own, common in (sides, sides[::-1]):
            if says(own, "worker", "workers") and not orphans(f, own):
                yield Proposal(edits=(f.replace(seed, f.text(common)),))
    elif isinstance(seed, cst.List | cst.Tuple) and len(seed.elements) > 1:
        kept = [each.value for each in seed.elements if not says(each, "worker", "workers")]
        gone = [each.value for each in seed.elements if says(each, "worker", "workers")]
        if kept and gone and not orphans(f, *gone):
            yield Proposal(edits=(f.replace(seed, f"[{', '.join(map(f.text, kept))}]"),))
