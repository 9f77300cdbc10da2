"""Mistakes in preparing and augmenting inputs, and what belongs to them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

import libcst as cst

from bughunt_mutator.operator import Example, Proposal, operator
from bughunt_mutator.operators._look import (
    ancestors,
    assigned,
    function_of,
    inside,
    keyword,
    loads,
    names_in,
    neighbours,
    number,
    operation,
    orphans,
    value,
)
from bughunt_mutator.operators._look_meaning import tidy
from bughunt_mutator.operators._look_parts import body_text, calls, draws, later, names_of, says
from bughunt_mutator.operators._look_training import merged
from bughunt_mutator.operators._sources import RECIPE, TAXONOMY, issue, pull
from bughunt_mutator.operators.data import standardised
from bughunt_mutator.source import SourceFile

PREPARING = (
    "scaled", "scale", "rescale", "normalise", "normalize", "normalised", "normalized", "standardise",
    "standardize", "standardised", "prepare", "prepared", "preprocess", "whiten",
)  # fmt: skip
AUGMENTING = (
    "augment", "augmented", "augmentation", "aug", "jitter", "distort", "flip", "crop", "shift", "perturb",
)  # fmt: skip
BESIDE = (
    "mask", "masks", "label", "labels", "target", "targets", "box", "boxes", "bbox", "bboxes", "landmark",
    "landmarks", "keypoint", "keypoints", "point", "points", "centre", "centres", "center", "centers",
    "angle", "angles", "seg", "segmentation", "y",
)  # fmt: skip


def prepares(f: SourceFile, node: cst.CSTNode | None) -> cst.BaseExpression | None:
    """What a call of the program's own preparation is given, its last argument."""
    if isinstance(node, cst.Call) and node.args and f.qname(node.func) is None:
        raw = node.args[-1]
        if says(node.func, *PREPARING) and raw.keyword is None and not raw.star:
            return raw.value
    return None


@operator(
    "normalise-twice",
    cst.Call,
    cst.BinaryOperation,
    category="data",
    difficulty=3,
    symptom="Learning is slower than it should be, or stops at a worse place.",
    hints=(
        "LOOK: print mean and spread of what the first layer receives.",
        "WHERE: the way from raw values to the model in `{function}`.",
        "WHAT: how often is a value brought to the common scale?",
    ),
    repair="Bring each input to the common scale once.",
    mechanism=(
        "Values that have been scaled already are shifted and divided again. They end up near one"
        " point with hardly any spread, so the first layer sees almost the same input every time."
    ),
    evidence=(TAXONOMY,),
    examples=(
        Example(
            row="normalise-twice",
            before="def fit(x):\n    x = scaled(x)\n    return net(x)\n",
            after=("def fit(x):\n    x = scaled(scaled(x))\n    return net(x)\n",),
        ),
        Example(
            before="def forward(self, x):\n    return self.body((x - self.mean) / self.std)\n",
            after=(
                "def forward(self, x):\n"
                "    return self.body(((x - self.mean) / self.std - self.mean) / self.std)\n",
            ),
        ),
    ),
    counterexamples=(
        "y = (x - a) / b\n",
        "from torch.nn.functional import normalize\ny = normalize(x)\n",
        "scaled(scaled(x))\n",
    ),
)
def normalise_twice(f: SourceFile, node: cst.Call | cst.BinaryOperation) -> Iterator[Proposal]:
    if isinstance(node, cst.BinaryOperation):
        found = standardised(f, node)
        if found is not None and standardised(f, found[0]) is None:
            _, mean, std = (f.text(each) for each in found)
            yield Proposal(edits=(f.replace(node, f"({f.text(node)} - {mean}) / {std}"),))
        return
    raw = prepares(f, node)
    around = any(prepares(f, above) is not None for above in ancestors(f, node))
    if raw is not None and prepares(f, raw) is None and not around:
        yield Proposal(edits=(f.replace(raw, f.text(node)),))


@operator(
    "aug-on-validation",
    cst.IfExp,
    cst.If,
    cst.Arg,
    category="data",
    difficulty=2,
    symptom="Held-out results are low, and change from one evaluation to the next.",
    hints=(
        "LOOK: evaluate twice in a row; look at the inputs of both.",
        "WHERE: when `{function}` changes its inputs at random.",
        "WHAT: is the model asked about the data, or about a distortion of them?",
    ),
    repair="Distort the inputs in training only.",
    mechanism=(
        "Random changes make training data richer. In evaluation they only make the questions"
        " harder and the answers noisy, so the best moment of a run is a matter of luck."
    ),
    evidence=("https://stackoverflow.com/questions/46239839", "https://stackoverflow.com/questions/59007484"),
    examples=(
        Example(
            row="aug-on-validation",
            before="x = augment(x, rng) if training else x\n",
            after=("x = augment(x, rng)\n",),
        ),
        Example(
            before="def batch(x, train):\n    if train:\n        x = jitter(x)\n    return x\n",
            after=("def batch(x, train):\n    x = jitter(x)\n    return x\n",),
        ),
        Example(
            before="a = Data(x, transform=train_tf)\nb = Data(z, transform=val_tf)\nc = val_tf\n",
            after=("a = Data(x, transform=train_tf)\nb = Data(z, transform=train_tf)\nc = val_tf\n",),
        ),
        Example(
            before="score(batches(x, augment=False))\n",
            after=("score(batches(x, augment=True))\n",),
        ),
    ),
    counterexamples=(
        "x = prepare(x) if training else x\n",
        "b = Data(z, transform=val_tf)\n",
        "if train:\n    x = scale(x)\n",
    ),
)
def augment_always(f: SourceFile, node: cst.IfExp | cst.If | cst.Arg) -> Iterator[Proposal]:
    if isinstance(node, cst.Arg):
        yield from _augmenting_argument(f, node)
    elif not says(node.test, "train", "training", "augment") or isinstance(node.test, cst.UnaryOperation):
        return
    elif isinstance(node, cst.IfExp):
        if any(says(call.func, *AUGMENTING) for call in inside(node.body, cst.Call)):
            yield Proposal(edits=(f.replace(node, f.text(node.body)),))
    elif node.orelse is None and not isinstance(f.parent.get(node), cst.If):
        distorts = any(
            says(call.func, *AUGMENTING) or draws(call.func) for call in inside(node.body, cst.Call)
        )
        body = body_text(f, node) if distorts else None
        if body is not None and not orphans(f, node.test):
            yield Proposal(edits=(f.replace(node, body),))


def _augmenting_argument(f: SourceFile, node: cst.Arg) -> Iterator[Proposal]:
    if node.keyword is None or not isinstance(node.value, cst.Name):
        return
    if says(node.keyword, *AUGMENTING) and node.value.value == "False":
        yield Proposal(edits=(f.replace(node.value, "True"),))
    if says(node.keyword, "transform", "transforms"):
        twin = re.sub("(?<![a-z])(validation|valid|val|test|eval)(?![a-z])", "train", node.value.value)
        bound = {each.value for each in inside(f.module, cst.Name)}
        if twin != node.value.value and twin in bound and not orphans(f, node.value):
            yield Proposal(edits=(f.replace(node.value, twin),))


def flips(node: cst.CSTNode) -> bool:
    """Whether an expression mirrors an array."""
    if any(True for _ in calls(node, "flip", "fliplr", "flipud", "hflip", "vflip")):
        return True
    steps = (part.step for part in inside(node, cst.Slice) if part.step is not None)
    return any(number(step) == -1 for step in steps)


def own_change(line: cst.CSTNode) -> tuple[str, cst.BaseExpression] | None:
    """Name and value of a statement that computes an array from itself."""
    target, made = assigned(line) or (None, None)
    while isinstance(target, cst.Subscript):
        target = target.value
    if isinstance(target, cst.Name) and made is not None and loads(made)[target.value]:
        return target.value, made
    return None


@operator(
    "flip-without-label",
    cst.SimpleStatementLine,
    cst.Tuple,
    category="data",
    difficulty=4,
    symptom="It learns, but answers about places are blurred or drawn to the middle.",
    hints=(
        "LOOK: draw a few inputs with their answers after the preparation.",
        "WHERE: what `{function}` changes together, and what it does not.",
        "WHAT: if a picture is mirrored, what else must be?",
    ),
    repair="Mirror what belongs to the picture along with it.",
    mechanism=(
        "Half of the pictures are mirrored and their answers are not. For these the answer is wrong"
        " in a systematic way; the best compromise lies between both places."
    ),
    evidence=(RECIPE,),
    examples=(
        Example(
            row="flip-without-label",
            before="if p < 0.5:\n    image = image.flip(-1)\n    box = 31 - box\n",
            after=("if p < 0.5:\n    image = image.flip(-1)\n",),
        ),
        Example(
            before=(
                "import torch\nx = torch.where(flip, x.flip(-1), x)\n"
                "boxes[:, 0] = torch.where(flip, 9 - boxes[:, 0], boxes[:, 0])\n"
            ),
            after=("import torch\nx = torch.where(flip, x.flip(-1), x)\n",),
        ),
        Example(
            before="def f(image, mask):\n    return image[:, ::-1], mask[:, ::-1]\n",
            after=("def f(image, mask):\n    return image[:, ::-1], mask\n",),
        ),
        Example(
            before=(
                "import torch\n\ndef f(x, boxes, chosen):\n    left, right = boxes.unbind(-1)\n"
                "    turned = torch.stack([9 - right, 9 - left])\n"
                "    x = torch.where(chosen, x.flip(2), x)\n"
                "    return x, torch.where(chosen, turned, boxes)\n"
            ),
            after=(
                "import torch\n\ndef f(x, boxes, chosen):\n    x = torch.where(chosen, x.flip(2), x)\n"
                "    return x, boxes\n",
            ),
        ),
    ),
    counterexamples=(
        "image = image.flip(-1)\nboxes = boxes * scale\n",
        "if p:\n    image = image + 1\n    box = 31 - box\n",
    ),
)
def flip_alone(f: SourceFile, node: cst.SimpleStatementLine | cst.Tuple) -> Iterator[Proposal]:
    if isinstance(node, cst.Tuple):
        parts = [element.value for element in node.elements]
        for image, beside in pairwise(parts):
            plain = _unflipped(f, beside)
            if _unflipped(f, image) is not None and plain is not None and says(beside, *BESIDE):
                yield Proposal(edits=(f.replace(beside, plain),))
        for beside in parts:
            yield from _chosen_alone(f, beside)
        return
    own = own_change(node)
    if own is None or not flips(own[1]) or says(cst.Name(own[0]), *BESIDE):
        return
    reason = {name for name in loads(own[1]) if says(cst.Name(name), "flip", "flipped", "mirror", "mirrored")}
    guarded = isinstance(f.parent.get(f.parent[node]), cst.If)
    for line in later(f, node):
        other = own_change(line)
        if other is None or other[0] == own[0] or not says(cst.Name(other[0]), *BESIDE):
            continue
        if guarded or reason & loads(other[1]).keys():
            yield Proposal(edits=(f.delete_statement(line),))


def _chosen_alone(f: SourceFile, node: cst.BaseExpression) -> Iterator[Proposal]:
    """What belongs to pictures as it was, where a line above mirrors those that were chosen."""
    op = operation(f, node, "where")
    if op is None or not op.shift or len(op.call.args) != 3 or not says(op.call.args[2].value, *BESIDE):
        return
    chosen, mirrored, kept = (each.value for each in op.call.args)
    lines, place = neighbours(f, f.statement(node))
    for line in lines[:place]:
        own = own_change(line)
        if own is None or not flips(own[1]) or not names_in(chosen) <= names_in(own[1]):
            continue
        unread = tidy(f, mirrored)
        if unread is not None:
            yield Proposal(edits=merged(*unread, f.replace(node, f.text(kept))))
        return


def _unflipped(f: SourceFile, node: cst.BaseExpression) -> str | None:
    op = operation(f, node, "flip", "fliplr", "flipud")
    if op is not None:
        return f.text(op.subject)
    return f.text(node.value) if isinstance(node, cst.Subscript) and flips(node) else None


@operator(
    "mask-bilinear",
    cst.Call,
    category="data",
    difficulty=3,
    symptom="Borders between regions are learned badly; regions turn up that nobody has drawn.",
    hints=(
        "LOOK: list the distinct values of a mask before and after its size is changed.",
        "WHERE: how `{function}` fills the places between pixels.",
        "WHAT: what is half-way between class 1 and class 3?",
    ),
    repair="Take the nearest pixel where values are classes.",
    mechanism=(
        "A mask holds names of classes that happen to be numbers. Mixing neighbours gives values in"
        " between, which are fractions, or the numbers of classes that are not there at all."
    ),
    evidence=(
        issue("albumentations-team/albumentations", 175),
        issue("albumentations-team/albumentations", 135),
        pull("albumentations-team/albumentations", 66),
        pull("kornia/kornia", 1630),
        issue("mdbloice/Augmentor", 221),
    ),
    examples=(
        Example(
            row="mask-bilinear",
            before='import torch.nn.functional as F\nm = F.interpolate(mask, size=9, mode="nearest")\n',
            after=('import torch.nn.functional as F\nm = F.interpolate(mask, size=9, mode="bilinear")\n',),
        ),
        Example(
            before="import torch.nn.functional as F\nm = F.interpolate(masks.float(), size=9)\n",
            after=(
                "import torch.nn.functional as F\n"
                'm = F.interpolate(masks.float(), size=9, mode="bilinear")\n',
            ),
        ),
        Example(
            before="m = cv2.resize(mask, (9, 9), interpolation=cv2.INTER_NEAREST)\n",
            after=("m = cv2.resize(mask, (9, 9), interpolation=cv2.INTER_LINEAR)\n",),
        ),
    ),
    counterexamples=(
        'import torch.nn.functional as F\nm = F.interpolate(image, size=9, mode="nearest")\n',
        'import torch.nn.functional as F\nm = F.interpolate(mask, size=9, mode="bilinear")\n',
    ),
)
def mask_bilinear(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    subject = node.args[0].value if node.args else None
    if not says(subject, "mask", "masks", "seg", "segmentation", "label", "labels", "classes"):
        return
    mode = keyword(node, "mode")
    by_default = f.qname(node.func) == "torch.nn.functional.interpolate" and f.arg(node, "mode", 3) is None
    if mode is not None and f.text(mode.value).strip("\"'") == "nearest":
        yield Proposal(edits=(f.replace(mode.value, f.text(mode.value).replace("nearest", "bilinear")),))
    elif by_default:
        yield Proposal(edits=(f.insert_arg(node, 'mode="bilinear"'),))
    for each in inside(node, cst.Attribute):
        new = {"INTER_NEAREST": "INTER_LINEAR", "NEAREST": "BILINEAR"}.get(each.attr.value)
        if new is not None:
            yield Proposal(edits=(f.replace(each.attr, new),))


@operator(
    "image-mask-different-params",
    cst.SimpleStatementLine,
    category="data",
    difficulty=3,
    symptom="The model finds the share of each class, but not where anything is.",
    hints=(
        "LOOK: lay an augmented mask over its augmented picture.",
        "WHERE: the random numbers in `{function}`.",
        "WHAT: are picture and mask changed in the same way?",
    ),
    repair="Draw once, and use what was drawn for both.",
    mechanism=(
        "Picture and mask each get random numbers of their own, so they are moved apart. A pixel"
        " no longer stands above its answer, and only averages can be learned."
    ),
    evidence=(issue("mdbloice/Augmentor", 188), issue("mdbloice/Augmentor", 205)),
    examples=(
        Example(
            row="image-mask-different-params",
            before="p = draw(rng)\nimage = warp(image, p)\nmask = warp(mask, p)\n",
            after=("p = draw(rng)\nimage = warp(image, p)\np = draw(rng)\nmask = warp(mask, p)\n",),
        ),
        Example(
            before=(
                "import torch\nt = torch.randint(9, ()).item()\nx = x[:, t:t + 9]\n"
                "y_mask = y_mask[:, t:t + 9]\n"
            ),
            after=(
                "import torch\nt = torch.randint(9, ()).item()\nx = x[:, t:t + 9]\n"
                "t = torch.randint(9, ()).item()\ny_mask = y_mask[:, t:t + 9]\n",
            ),
        ),
    ),
    counterexamples=(
        "p = draw(rng)\nmask = warp(mask, p)\n",
        "p = 3\nimage = warp(image, p)\nmask = warp(mask, p)\n",
    ),
)
def drawn_again(f: SourceFile, node: cst.SimpleStatementLine) -> Iterator[Proposal]:
    target, made = assigned(node) or (None, None)
    if target is None or made is None or not draws(made) or says(made, *BESIDE):
        return
    names = names_of(target)
    users = [line for line in later(f, node) if names & loads(line).keys() and own_change(line) is not None]
    for before, line in pairwise(users):
        own = own_change(line)
        if own is not None and says(cst.Name(own[0]), *BESIDE) and own[0] not in loads(before):
            yield Proposal(edits=(f.insert_before(line, f.text(node).strip()),))
            return


@operator(
    "channel-order",
    cst.Call,
    category="data",
    difficulty=4,
    symptom="It learns nearly as well as it should, except where direction or colour matters.",
    hints=(
        "LOOK: draw one input just before it enters the model, next to the raw picture.",
        "WHERE: the order of the axes in `{function}`.",
        "WHAT: which axis is height, which is width, which is colour?",
    ),
    repair="Move the channels to the front and leave height before width.",
    mechanism=(
        "The picture is turned about its diagonal, or its colours change places. A network that is"
        " trained this way adapts, but pictures from elsewhere then look foreign to it."
    ),
    evidence=(TAXONOMY,),
    examples=(
        Example(row="channel-order", before="x = x.permute(2, 0, 1)\n", after=("x = x.permute(2, 1, 0)\n",)),
        Example(before="x = x.permute(0, 3, 1, 2)\n", after=("x = x.permute(0, 3, 2, 1)\n",)),
        Example(
            before="import numpy as np\nx = np.transpose(image, (2, 0, 1))\n",
            after=("import numpy as np\nx = np.transpose(image, (2, 1, 0))\n",),
        ),
        Example(
            before="import cv2\nx = cv2.cvtColor(cv2.imread(p), cv2.COLOR_BGR2RGB)\n",
            after=("import cv2\nx = cv2.imread(p)\n",),
        ),
    ),
    counterexamples=("x = x.permute(0, 2, 1)\n", "q = q.permute(2, 0, 3, 1, 4)\n"),
)
def channel_order(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    if f.qname(node.func) == "cv2.cvtColor" and "BGR2RGB" in f.text(node):
        picture = value(f, node, "src", 0)
        if picture is not None and says(picture, "imread"):
            yield Proposal(edits=(f.replace(node, f.text(picture)),))
    op = operation(f, node, "permute", "transpose")
    if op is None:
        return
    axes = [each.value for each in node.args[op.shift :]]
    if len(axes) == 1 and isinstance(axes[0], cst.Tuple | cst.List):
        axes = [element.value for element in axes[0].elements]
    order = [f.text(each) for each in axes]
    if order == ["2", "0", "1"]:
        yield Proposal(edits=f.swap(axes[1], axes[2]))
    elif order == ["0", "3", "1", "2"] and not says(function_of(f, node), "q", "k", "heads", "head", "attn"):
        yield Proposal(edits=f.swap(axes[2], axes[3]))
