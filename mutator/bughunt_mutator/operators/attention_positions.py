"""Mistakes in how attention is told about positions: sinusoids and rotations."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from bughunt_mutator.operator import Example, Proposal, operator
from bughunt_mutator.operators._look import (
    ancestors,
    assigned,
    binary,
    function_of,
    inside,
    last_name,
    names_in,
    number,
    operation,
)
from bughunt_mutator.operators._look_models import atom, before, lines_of, parameters, words
from bughunt_mutator.operators._sources import issue, pull
from bughunt_mutator.operators.attention_masks import role
from bughunt_mutator.source import SourceFile

UNSLOTH = "https://unsloth.ai/blog/gemma-bugs"
VALUE_OF = {"k": "v", "key": "value", "keys": "values", "xk": "xv"}
EVEN, ODD = ("[..., ::2]", "[..., 0::2]"), "[..., 1::2]"
HALVES = (".chunk(2, dim=-1)", ".chunk(2, -1)", ".chunk(2, axis=-1)")


@operator(
    "pos-enc-div-term",
    cst.BinaryOperation,
    category="attention-transformer",
    difficulty=5,
    symptom="Almost nothing shows; over long distances, positions are told apart a little worse.",
    hints=(
        "LOOK: plot the slowest wave of the encoding; how long is its period?",
        "WHERE: the exponents in `{function}`.",
        "WHAT: from which frequency to which should the waves range?",
    ),
    repair="Let the exponent run over the whole width, from 0 to nearly 1.",
    mechanism=(
        "Frequencies are a geometric series from 1 down to the base's inverse. With twice the"
        " divisor the series ends at the root of that, so the slow waves that mark distant"
        " positions are missing and the quick ones crowd together."
    ),
    examples=(
        Example(
            row="pos-enc-div-term",
            before="import math\nimport torch\n"
            "w = torch.exp(torch.arange(0, d, 2) * (-math.log(10000.0) / d))\n",
            after=(
                "import math\nimport torch\n"
                "w = torch.exp(torch.arange(0, d, 2) * (-math.log(10000.0) / (2 * d)))\n",
            ),
        ),
        Example(
            before="import torch\nf = 1.0 / base ** (torch.arange(0, K, 2).float() / K)\n",
            after=("import torch\nf = 1.0 / base ** (torch.arange(0, K, 2).float() / (2 * K))\n",),
        ),
    ),
    counterexamples=(
        "import math\nlr = math.exp(-math.log(100.0) * step / steps)\n",
        "import torch\nx = torch.arange(9) / 8\n",
    ),
)
def pos_enc_div_term(f: SourceFile, node: cst.BinaryOperation) -> Iterator[Proposal]:
    sides = binary(node, cst.Divide)
    if sides is None or not is_exponent(f, node) or number(sides[0]) == 1:
        return
    counted = any(last_name(call.func) in ("arange", "log") for call in inside(sides[0], cst.Call))
    if counted:
        yield Proposal(edits=(f.replace(sides[1], f"(2 * {f.text(sides[1])})"),))


def is_exponent(f: SourceFile, node: cst.CSTNode) -> bool:
    """Whether a value is part of the exponent of a series of frequencies."""
    for above in ancestors(f, node):
        if isinstance(above, cst.SimpleStatementLine | cst.FunctionDef):
            return False
        calls = {last_name(call.func) for call in inside(above, cst.Call)}
        power = isinstance(above, cst.BinaryOperation) and isinstance(above.operator, cst.Power)
        exponential = isinstance(above, cst.Call) and last_name(above.func) == "exp" and "log" in calls
        if "arange" in calls and (power or exponential):
            return True
    return False


@operator(
    "rope-half-vs-interleaved",
    cst.Assign,
    category="attention-transformer",
    difficulty=5,
    symptom="The model learns, but whole sentences moved by a few places get other answers.",
    hints=(
        "LOOK: rotate a query and a key, shift both by one place, and compare the product.",
        "WHERE: which two numbers are turned together in `{function}`.",
        "WHAT: does the way numbers are paired agree with the way the angles are laid out?",
    ),
    repair="Pair the numbers in the same way when splitting, turning and joining.",
    mechanism=(
        "Two layouts are in use: neighbours form a pair, or the first half is paired with the"
        " second. Each works with its own angles and its own way of joining. Mixed, the two"
        " numbers of a pair are turned by different angles, and distance no longer decides."
    ),
    evidence=(issue("raiyanyahya/how-to-train-your-gpt", 6), issue("EleutherAI/gpt-neox", 834)),
    examples=(
        Example(
            row="rope-half-vs-interleaved",
            before="def rotate_half(x):\n    a, b = x.chunk(2, dim=-1)\n    return cat((-b, a), -1)\n",
            after=(
                "def rotate_half(x):\n    a, b = x[..., ::2], x[..., 1::2]\n    return cat((-b, a), -1)\n",
            ),
        ),
        Example(
            before="def turn(x, cos, sin):\n    a, b = x[..., 0::2], x[..., 1::2]\n"
            "    return join(a * cos - b * sin, a * sin + b * cos)\n",
            after=(
                "def turn(x, cos, sin):\n    a, b = x.chunk(2, dim=-1)\n"
                "    return join(a * cos - b * sin, a * sin + b * cos)\n",
            ),
        ),
    ),
    counterexamples=(
        "def gate(x):\n    a, b = x.chunk(2, dim=-1)\n    return a * b.sigmoid()\n",
        "def rotate(x):\n    a, b = x.chunk(2, dim=0)\n    return b, a\n",
    ),
)
def rope_layout(f: SourceFile, node: cst.Assign) -> Iterator[Proposal]:
    target = node.targets[0].target
    home = f.function(node)
    if home is None or not isinstance(target, cst.Tuple) or len(target.elements) != 2:
        return
    turning = words(home.name.value) & {"rotate", "rot", "rope", "rotary"}
    if not turning and not {"cos", "sin"} <= names_in(home):
        return
    op = operation(f, node.value, "chunk")
    if op is not None and f.text(node.value).endswith(HALVES):
        x = atom(f, op.subject)
        yield Proposal(edits=(f.replace(node.value, f"{x}[..., ::2], {x}[..., 1::2]"),))
    elif isinstance(node.value, cst.Tuple) and len(node.value.elements) == 2:
        even, odd = (f.text(element.value) for element in node.value.elements)
        x = odd.removesuffix(ODD)
        if x != odd and even in (x + EVEN[0], x + EVEN[1]):
            yield Proposal(edits=(f.replace(node.value, f"{x}.chunk(2, dim=-1)"),))


def is_rotation(f: SourceFile, node: cst.CSTNode) -> bool:
    """Whether a call turns queries or keys by their positions."""
    if not isinstance(node, cst.Call) or not node.args:
        return False
    name = last_name(node.func).lower()
    turning = words(name) & {"rope", "rotary", "rotate", "rot"} or "rotary" in name or "rope" in name
    first = node.args[0].value
    given = first if isinstance(first, cst.Name) else operation(f, first, "transpose", "view", "reshape")
    operand = given.subject if given is not None and not isinstance(given, cst.Name) else given
    return bool(turning) and "half" not in name and operand is not None and role(operand) in ("q", "k")


def operands(node: cst.Call) -> list[cst.BaseExpression]:
    """The queries and keys among the arguments of a rotation."""
    return [arg.value for arg in node.args if role(arg.value) in ("q", "k")]


@operator(
    "rope-wrong-axis",
    cst.SimpleStatementLine,
    category="attention-transformer",
    difficulty=5,
    symptom="The order of the tokens hardly matters to the model.",
    hints=(
        "LOOK: rotate a tensor of ones and see along which axis the result varies.",
        "WHERE: the layout of what is rotated in `{function}`.",
        "WHAT: which axis does the rotation count as time?",
    ),
    repair="Hand the tensor over in the layout that the rotation expects.",
    mechanism=(
        "The rotation counts along one axis, and here that axis holds the heads. Every head is"
        " turned by its own fixed angle, the same at all positions, so the scores do not depend"
        " on where a token stands."
    ),
    evidence=(issue("mlfoundations/open_lm", 4), pull("vukrosic/leo-optimizer", 2)),
    examples=(
        Example(
            row="rope-wrong-axis",
            before="q, k = rope(q), rope(k)\n",
            after=(
                "q, k = rope(q.transpose(1, 2)).transpose(1, 2), rope(k.transpose(1, 2)).transpose(1, 2)\n",
            ),
        ),
        Example(
            before="q, k = apply_rotary(q, k, cos, sin)\n",
            after=(
                "q, k = (each.transpose(1, 2) for each in "
                "apply_rotary(q.transpose(1, 2), k.transpose(1, 2), cos, sin))\n",
            ),
        ),
    ),
    counterexamples=("x = rotate(x)\n", "y = rotate_half(q)\n"),
)
def rope_wrong_axis(f: SourceFile, node: cst.SimpleStatementLine) -> Iterator[Proposal]:
    edits = []
    for call in rotations(f, node):
        turned = {f.text(each): f"{f.text(each)}.transpose(1, 2)" for each in operands(call)}
        rest = [f.text(each).rstrip(", ") for each in call.args]
        new = f"{f.text(call.func)}({', '.join(turned.get(each, each) for each in rest)})"
        both = len(turned) == 2
        edits.append(
            f.replace(call, f"(each.transpose(1, 2) for each in {new})" if both else f"{new}.transpose(1, 2)")
        )
    if edits:
        yield Proposal(edits=tuple(edits))


def rotations(f: SourceFile, node: cst.CSTNode) -> list[cst.Call]:
    """The rotations in a statement whose operands are plain names."""
    return [call for call in inside(node, cst.Call) if is_rotation(f, call) and operands(call)]


@operator(
    "rope-low-precision",
    cst.SimpleStatementLine,
    category="attention-transformer",
    difficulty=5,
    symptom="Short inputs are as good as ever; the longer the input, the blurrier its end.",
    hints=(
        "LOOK: compare the angles of late positions with those computed in double precision.",
        "WHERE: the type of the numbers in `{function}`.",
        "WHAT: how many different values between 512 and 1024 can the type express?",
    ),
    repair="Compute positions, frequencies and angles in float32.",
    mechanism=(
        "An angle is a position times a frequency, and it grows without bound. Half-precision"
        " types keep few digits, so that neighbouring late positions are rounded to the same"
        " angle; the sine of a badly rounded large number is noise."
    ),
    evidence=(UNSLOTH,),
    examples=(
        Example(
            row="rope-low-precision",
            before="def f(t, w):\n    angles = t[:, None] * w\n    return angles.cos(), angles.sin()\n",
            after=(
                "def f(t, w):\n    angles = (t[:, None] * w).bfloat16()\n"
                "    return angles.cos(), angles.sin()\n",
            ),
        ),
        Example(
            before="import torch\n\ndef f(t, w):\n    a = torch.outer(t, w).float()\n"
            "    return torch.cos(a), torch.sin(a)\n",
            after=(
                "import torch\n\ndef f(t, w):\n    a = torch.outer(t, w).bfloat16()\n"
                "    return torch.cos(a), torch.sin(a)\n",
            ),
        ),
        Example(
            before="import torch\n\ndef f(t, w):\n    a = t * w\n    return torch.cat([a.cos(), a.sin()])\n",
            after=(
                "import torch\n\ndef f(t, w):\n    a = (t * w).bfloat16().float()\n"
                "    return torch.cat([a.cos(), a.sin()])\n",
            ),
        ),
    ),
    counterexamples=(
        "def f(a):\n    b = a * 2\n    return b.cos()\n",
        "import math\n\ndef f(a):\n    b = a * 2\n    return math.cos(b), math.sin(b)\n",
    ),
)
def rope_low_precision(f: SourceFile, node: cst.SimpleStatementLine) -> Iterator[Proposal]:
    pair = assigned(node)
    home = f.function(node)
    if pair is None or home is None or not isinstance(pair[0], cst.Name):
        return
    waves = {
        op.name
        for call in inside(home, cst.Call)
        if (op := operation(f, call, "cos", "sin")) is not None and f.text(op.subject) == pair[0].value
    }
    if waves != {"cos", "sin"} or "numpy" in " ".join(f.aliases.table.values()):
        return
    text = f.text(pair[1])
    new = text[: -len(".float()")] if text.endswith(".float()") else atom(f, pair[1])
    tail = ".bfloat16().float()" if joined_up(home) else ".bfloat16()"
    yield Proposal(edits=(f.replace(pair[1], new + tail),))


def joined_up(home: cst.FunctionDef) -> bool:
    """Whether a function puts tensors together, where types must agree."""
    return any(last_name(call.func) in ("cat", "concat", "stack") for call in inside(home, cst.Call))


@operator(
    "rope-on-values",
    cst.SimpleStatementLine,
    cst.Call,
    category="attention-transformer",
    difficulty=5,
    symptom="The model learns almost as well as it should, and differs from a trusted one.",
    hints=(
        "LOOK: move a sentence by some places; does what attention brings back stay the same?",
        "WHERE: what is rotated in `{function}`.",
        "WHAT: which of the three roles needs to know where a token stands?",
    ),
    repair="Rotate queries and keys only.",
    mechanism=(
        "Rotation works because the product of a query and a key depends on their distance alone."
        " Values meet no partner that turns them back: what is brought back depends on the"
        " absolute position, and the next layer has to undo it."
    ),
    examples=(
        Example(
            row="rope-on-values",
            before="def f(q, k, v):\n    q, k = rope(q, 3), rope(k, 3)\n    return attend(q, k, v)\n",
            after=(
                "def f(q, k, v):\n    q, k = rope(q, 3), rope(k, 3)\n    v = rope(v, 3)\n"
                "    return attend(q, k, v)\n",
            ),
        ),
        Example(
            before="def f(q, k, v, c, s):\n    q, k = apply_rope(q, k, c, s)\n    return attend(q, k, v)\n",
            after=(
                "def f(q, k, v, c, s):\n    q, k = apply_rope(q, k, c, s)\n"
                "    v = apply_rope(v, v, c, s)[0]\n    return attend(q, k, v)\n",
            ),
        ),
        Example(
            before="def f(q, k, v):\n    return attend(rotate(q), rotate(k), v)\n",
            after=("def f(q, k, v):\n    return attend(rotate(q), rotate(k), rotate(v))\n",),
        ),
    ),
    counterexamples=(
        "def f(q, k):\n    k = rope(k)\n    return q @ k.T\n",
        "def f(q, k, v):\n    k = rope(k)\n    v = rope(v)\n    return attend(q, k, v)\n",
    ),
)
def rope_on_values(f: SourceFile, node: cst.SimpleStatementLine | cst.Call) -> Iterator[Proposal]:
    if isinstance(node, cst.Call):
        turned = [each.value for each in node.args if isinstance(each.value, cst.Call)]
        pool = [call for call in turned if is_rotation(f, call) and len(operands(call)) == 1]
    else:
        pool = rotations(f, node) if binds_tensor(node) else []
    for call in pool:
        keys = [each for each in operands(call) if role(each) == "k"]
        name = VALUE_OF.get(f.text(keys[0])) if keys else None
        if name is None or not free_to_turn(f, call, name):
            continue
        if isinstance(node, cst.Call):
            for arg in node.args:
                if f.text(arg.value) == name:
                    yield Proposal(edits=(f.replace(arg.value, of_values(f, call, name)),))
        else:
            yield Proposal(edits=(f.insert_after(node, f"{name} = {of_values(f, call, name)}"),))
        return


def binds_tensor(line: cst.SimpleStatementLine) -> bool:
    """Whether a statement gives a rotated key a name."""
    pair = assigned(line)
    return pair is not None and "k" in {role(each) for each in inside(pair[0], cst.Name)}


def free_to_turn(f: SourceFile, call: cst.Call, name: str) -> bool:
    """Whether values of that name exist at a call and are turned by nobody."""
    home = function_of(f, call)
    turned = any(
        is_values_rotation(each, name)
        for each in inside(home, cst.Call)
        if last_name(each.func) == last_name(call.func)
    )
    known = name in parameters(f, call) or any(
        before(f, line, call) and name in names_in(pair[0])
        for line in lines_of(f, call)
        if (pair := assigned(line)) is not None
    )
    return known and not turned


def is_values_rotation(call: cst.Call, name: str) -> bool:
    """Whether a call takes the values."""
    return any(isinstance(each.value, cst.Name) and each.value.value == name for each in call.args)


def of_values(f: SourceFile, call: cst.Call, name: str) -> str:
    """The same rotation of the values."""
    turned = {id(each) for each in operands(call)}
    given = [name if id(each.value) in turned else f.text(each).rstrip(", ") for each in call.args]
    whole = f"{f.text(call.func)}({', '.join(given)})"
    return f"{whole}[0]" if len(turned) == 2 else whole
