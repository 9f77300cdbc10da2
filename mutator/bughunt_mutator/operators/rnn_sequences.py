"""Mistakes in what is carried from step to step, and in what a sequence model is asked for."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from bughunt_mutator.operator import Example, Proposal, operator
from bughunt_mutator.operators._look import (
    assigned,
    called,
    function_of,
    inside,
    last_name,
    loop_of,
    mentions,
    names_in,
    operation,
)
from bughunt_mutator.operators._look_models import lines_of, words
from bughunt_mutator.operators._sources import PPO_DETAILS, pull
from bughunt_mutator.source import SourceFile

STATES = frozenset({"h", "c", "hidden", "state", "states", "carry", "hx", "cx", "memory", "cell"})
ENDINGS = frozenset(
    {"done", "dones", "reset", "resets", "terminated", "terminal", "boundary", "first", "over"}
)
STOPS = frozenset({"eos", "eot", "eod", "end", "stop"})
DECODERS = ("dec", "tgt", "trg", "forced", "shifted")


def is_state(node: cst.CSTNode) -> bool:
    """Whether a name is that of a state that is carried on."""
    return isinstance(node, cst.Name) and bool(words(node.value) & STATES)


@operator(
    "hidden-not-reset",
    cst.SimpleStatementLine,
    category="rnn-sequence",
    difficulty=3,
    symptom="Answers depend on what was read before; the order of the sequences matters.",
    hints=(
        "LOOK: give the same sequence twice in a row and compare what comes out.",
        "WHERE: where the state of `{function}` comes from when a new sequence begins.",
        "WHAT: what should be remembered across the border between two sequences?",
    ),
    repair="Start each sequence from a fresh state.",
    mechanism=(
        "The state is the summary of what has been read. Carried into the next sequence, it says"
        " things about another one, which the model has to learn to ignore and in use gets from"
        " wherever it was before."
    ),
    evidence=(PPO_DETAILS,),
    examples=(
        Example(
            row="hidden-not-reset",
            before="import torch\nfor x in rows:\n    h = torch.zeros(3, 8)\n    for t in x:\n"
            "        h = cell(t, h)\n",
            after=(
                "import torch\nh = torch.zeros(3, 8)\nfor x in rows:\n    h = h.detach()\n    for t in x:\n"
                "        h = cell(t, h)\n",
            ),
        ),
        Example(
            before="for x, done in steps:\n    h = h * (1 - done)\n    h = cell(x, h)\n",
            after=("for x, done in steps:\n    h = cell(x, h)\n",),
        ),
        Example(
            before="def f(cell, xs, done):\n    state = None\n    for t in range(9):\n"
            "        state = cell(xs[t], state) * ~done[t]\n    return state\n",
            after=(
                "def f(cell, xs, done):\n    state = None\n    for t in range(9):\n"
                "        state = cell(xs[t], state)\n    return state\n",
            ),
        ),
    ),
    counterexamples=(
        "import torch\nfor x in rows:\n    total = torch.zeros(3)\n    total = total + x\n",
        "import torch\nfor x in rows:\n    h = torch.zeros(len(x), 8)\n    h = cell(x, h)\n",
        "h = h * (1 - z) + n * z\n",
    ),
)
def hidden_not_reset(f: SourceFile, node: cst.SimpleStatementLine) -> Iterator[Proposal]:
    pair = assigned(node)
    loop = loop_of(f, node)
    if loop is None:
        return
    if pair is not None and is_state(pair[0]) and starts_afresh(f, node, pair[1], loop):
        name = f.text(pair[0])
        before = f.insert_before(loop, f"{name} = {f.text(pair[1])}")
        yield Proposal(edits=(before, f.replace(pair[1], f"{name}.detach()")))
    else:
        yield from kept_alive(f, node)


def starts_afresh(
    f: SourceFile, line: cst.CSTNode, start: cst.BaseExpression, loop: cst.For | cst.While
) -> bool:
    """Whether a line clears a state at the top of a loop that then gives it other values."""
    outermost = f.parent.get(f.parent[line]) is loop and is_zeros(start)
    return outermost and not names_in(start) & bound_in(loop) and carried(f, loop, line)


def kept_alive(f: SourceFile, node: cst.SimpleStatementLine) -> Iterator[Proposal]:
    """The state carried over the end of an episode."""
    line = node.body[0]
    if isinstance(line, cst.AugAssign) and isinstance(line.operator, cst.MultiplyAssign):
        if is_state(line.target) and is_continuation(line.value):
            yield Proposal(edits=(f.delete_statement(node),))
        return
    pair = assigned(node)
    if pair is None or not is_state(pair[0]) or not isinstance(pair[1], cst.BinaryOperation):
        return
    product = pair[1]
    if isinstance(product.operator, cst.Multiply) and is_continuation(product.right):
        if f.text(product.left) == f.text(pair[0]):
            yield Proposal(edits=(f.delete_statement(node),))
        else:
            yield Proposal(edits=(f.replace(product, f.text(product.left)),))


def is_continuation(node: cst.BaseExpression) -> bool:
    """Whether a factor is zero where a sequence has ended."""
    while isinstance(node, cst.Subscript):
        node = node.value
    known = frozenset(word for name in names_in(node) for word in words(name))
    negated = isinstance(node, cst.UnaryOperation) or (
        isinstance(node, cst.BinaryOperation) and isinstance(node.operator, cst.Subtract)
    )
    return bool(known & ENDINGS) and negated


def is_zeros(node: cst.BaseExpression) -> bool:
    """Whether a value is a state that knows nothing."""
    return isinstance(node, cst.Call) and last_name(node.func) in (
        "zeros",
        "new_zeros",
        "initial_state",
        "init_hidden",
        "init_state",
    )


def bound_in(loop: cst.For | cst.While) -> frozenset[str]:
    """The names that a loop gives a value."""
    targets = [loop.target] if isinstance(loop, cst.For) else []
    targets += [each.target for each in inside(loop.body, cst.AssignTarget)]
    return frozenset(name for target in targets for name in names_in(target))


def carried(f: SourceFile, loop: cst.For | cst.While, line: cst.CSTNode) -> bool:
    """Whether a loop gives the state another value after the line that clears it."""
    pair = assigned(line)
    if pair is None:
        return False
    name = f.text(pair[0])
    return any(
        name in names_in(each.target) and f.span(each)[0] > f.span(line)[1]
        for each in inside(loop.body, cst.AssignTarget)
    )


@operator(
    "bidir-last-wrong",
    cst.Call,
    category="rnn-sequence",
    difficulty=4,
    symptom="Reading in both directions helps less than it should.",
    hints=(
        "LOOK: change the first token; by how much does each half of the summary move?",
        "WHERE: which step `{function}` takes the summary from.",
        "WHAT: how much has the half that reads backwards seen at the last position?",
    ),
    repair="Take the forward half from the last step and the backward half from the first.",
    mechanism=(
        "At the last position, the forward half has read everything, but the backward half has only"
        " just begun: it has seen a single token. Half of the summary knows nothing about the"
        " sequence, and shapes are as they should be."
    ),
    examples=(
        Example(
            row="bidir-last-wrong",
            before="import torch\n\ndef f(rnn, x):\n    _, h = rnn(x)\n"
            "    return torch.cat([h[-2], h[-1]], dim=-1)\n",
            after=("import torch\n\ndef f(rnn, x):\n    out, _ = rnn(x)\n    return out[-1]\n",),
        ),
        Example(
            before="import torch\nfrom torch import nn\n\nrnn = nn.GRU(3, 4, batch_first=True)\n"
            "y, (h, c) = rnn(x)\nz = torch.cat((h[-2], h[-1]), 1)\n",
            after=(
                "import torch\nfrom torch import nn\n\nrnn = nn.GRU(3, 4, batch_first=True)\n"
                "y, (_, c) = rnn(x)\nz = y[:, -1]\n",
            ),
        ),
        Example(
            before="import torch\nfrom torch import nn\n\nrnn = nn.GRU(3, 4, bidirectional=True)\n\n"
            "def f(x, lengths):\n    packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True)\n"
            "    y, h = rnn(packed)\n    out, _ = pad_packed_sequence(y, batch_first=True)\n"
            "    return out, torch.cat([h[0], h[1]], dim=-1)\n",
            after=(
                "import torch\nfrom torch import nn\n\nrnn = nn.GRU(3, 4, bidirectional=True)\n\n"
                "def f(x, lengths):\n    packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True)\n"
                "    y, _ = rnn(packed)\n    out, _ = pad_packed_sequence(y, batch_first=True)\n"
                "    return out, out[torch.arange(len(lengths)), lengths - 1]\n",
            ),
        ),
        Example(
            before="import torch\nz = torch.cat([y[:, -1, :H], y[:, 0, H:]], dim=-1)\n",
            after=("import torch\nz = y[:, -1]\n",),
        ),
    ),
    counterexamples=(
        "import torch\nz = torch.cat([h[-2], h[-1]], dim=-1)\n",
        "import torch\nz = torch.cat([a[-2], b[-1]], dim=-1)\n",
    ),
)
def bidir_last(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    if f.qname(node.func) not in ("torch.cat", "torch.concat") or not node.args:
        return
    parts = node.args[0].value
    if not isinstance(parts, cst.List | cst.Tuple) or len(parts.elements) != 2:
        return
    one, two = (element.value for element in parts.elements)
    if not isinstance(one, cst.Subscript) or not isinstance(two, cst.Subscript):
        return
    base = f.text(one.value)
    ends = [f.text(each).removeprefix(base).replace(" ", "") for each in (one, two)]
    if f.text(two.value) != base:
        return
    indices = [each.removesuffix(",:,:]").removesuffix("]") for each in ends]
    if indices == ["[-2", "[-1"] or (indices == ["[0", "[1"] and "bidirectional=True" in f.source):
        yield from last_output(f, node, base)
    elif ends[0].startswith("[:,-1,:") and ends[1].startswith("[:,0,") and ends[1].endswith(":]"):
        yield Proposal(edits=(f.replace(node, f"{base}[:, -1]"),))


def last_output(f: SourceFile, node: cst.Call, state: str) -> Iterator[Proposal]:
    """The last output in the place of both last states."""
    for line in lines_of(f, node):
        pair = assigned(line)
        if pair is None or not isinstance(pair[0], cst.Tuple) or len(pair[0].elements) != 2:
            continue
        outputs, states = (element.value for element in pair[0].elements)
        first = states.elements[0].value if isinstance(states, cst.Tuple) else states
        if f.text(first) != state or not isinstance(outputs, cst.Name):
            continue
        name = "out" if outputs.value == "_" else outputs.value
        if name != outputs.value and name in names_in(function_of(f, node)):
            return
        where = "[:, -1]" if "batch_first=True" in f.source.replace(" ", "") else "[-1]"
        last = unpacked(f, node, name) if mentions(line, "pack") else name + where
        if last is None:
            return
        edits = [f.replace(node, last)]
        if name != outputs.value:
            edits.append(f.replace(outputs, name))
        told = f.source[f.span(line)[1] :].partition("\n")[0]  # a comment that speaks of the state stays true
        if f.text(function_of(f, node)).count(f"{state}[") == 2 and state not in told:
            edits.append(f.replace(first, "_"))
        yield Proposal(edits=tuple(edits))
        return


def unpacked(f: SourceFile, node: cst.Call, packed: str) -> str | None:
    """The last output of each row, where outputs were packed without their padding."""
    arange, lengths, name = f.spelling("torch.arange"), None, None
    for line in lines_of(f, node):
        target, made = assigned(line) or (None, None)
        if f.span(line)[1] > f.span(node)[0] or not isinstance(made, cst.Call) or len(made.args) < 2:
            continue
        if last_name(made.func) == "pack_padded_sequence":
            lengths = f.text(made.args[1].value).removesuffix(".cpu()")
        unpacks = last_name(made.func) == "pad_packed_sequence" and f.text(made.args[0].value) == packed
        if unpacks and isinstance(target, cst.Tuple) and "batch_first=True" in f.text(made):
            name = f.text(target.elements[0].value)
    if arange is None or lengths is None or name is None or not lengths.isidentifier():
        return None
    return f"{name}[{arange}(len({lengths})), {lengths} - 1]"


@operator(
    "teacher-forcing-target",
    cst.Subscript,
    category="rnn-sequence",
    difficulty=2,
    symptom="The loss goes to nearly zero, and what is generated makes no sense.",
    hints=(
        "LOOK: print the input and the target of the decoder, position by position.",
        "WHERE: what `{function}` feeds to the decoder.",
        "WHAT: does the decoder see the token that it is asked for?",
    ),
    repair="Feed the target up to the token before the one that is asked for.",
    mechanism=(
        "The decoder is given the very token that it should name, and learns to copy it. In use"
        " there is nothing to copy but its own last guess."
    ),
    evidence=(pull("huggingface/transformers", 46898),),
    examples=(
        Example(
            row="teacher-forcing-target",
            before="logits = net(src, tgt[:, :-1])\nloss = ce(logits, tgt[:, 1:])\n",
            after=("logits = net(src, tgt[:, 1:])\nloss = ce(logits, tgt[:, 1:])\n",),
        ),
        Example(
            before="decoder_input = y[:-1]\nwanted = y[1:]\n",
            after=("decoder_input = y[1:]\nwanted = y[1:]\n",),
        ),
        Example(
            before="inputs, answers = target[:, :-1], target[:, 1:]\n",
            after=("inputs, answers = target[:, 1:], target[:, 1:]\n",),
        ),
        Example(
            before="def decode(cell, target, h):\n    for t in range(1, 9):\n"
            "        h = cell(target[:, t - 1], h)\n    return h\n",
            after=(
                "def decode(cell, target, h):\n    for t in range(1, 9):\n"
                "        h = cell(target[:, t], h)\n    return h\n",
            ),
        ),
    ),
    counterexamples=(
        "x, y = w[:, :-1], w[:, 1:]\n",
        "y = net(src, tgt[:, :-1])\n",
        "def smooth(x):\n    for t in range(1, 9):\n        x[t] = f(x[t - 1])\n",
    ),
)
def teacher_forcing(f: SourceFile, node: cst.Subscript) -> Iterator[Proposal]:
    text = f.text(node)
    above = f.parent.get(node)
    if text.endswith((", :-1]", "[:-1]")):
        wanted = text[: -len(":-1]")] + "1:]"
        pair = assigned(f.statement(node))
        forced = pair is not None and pair[1] is node and mentions(pair[0], *DECODERS)
        apart = isinstance(above, cst.Element) and mentions(node.value, "target", "tgt", "trg", "answer")
        given = isinstance(above, cst.Arg) or apart
        known = any(f.text(each) == wanted for each in inside(function_of(f, node), cst.Subscript))
        if known and (forced or given):
            yield Proposal(edits=(f.replace(node, wanted),))
    elif text.endswith(" - 1]") and isinstance(above, cst.Arg) and loop_of(f, node) is not None:
        home = f.function(node)
        if mentions(node.value, "target", "tgt", "trg", "answer") and home is not None:
            yield Proposal(edits=(f.replace(node, text.removesuffix(" - 1]") + "]"),))


@operator(
    "ctc-not-logprobs",
    cst.Call,
    category="rnn-sequence",
    difficulty=2,
    symptom="The loss is negative, or becomes NaN.",
    hints=(
        "LOOK: exponentiate what is handed to the loss and sum it over the classes.",
        "WHERE: the last step before the loss in `{function}`.",
        "WHAT: what does this loss expect: logits, probabilities or their logarithms?",
    ),
    repair="Hand over log-probabilities.",
    mechanism=(
        "This loss multiplies probabilities along paths and does not normalise them itself. With"
        " raw logits, a path can have a 'probability' above one, so the loss has no lower bound and"
        " falls as long as the logits can grow."
    ),
    examples=(
        Example(
            row="ctc-not-logprobs",
            before="import torch.nn.functional as F\nloss = F.ctc_loss(z.log_softmax(-1), y, n, m)\n",
            after=("import torch.nn.functional as F\nloss = F.ctc_loss(z, y, n, m)\n",),
        ),
        Example(
            before="import torch.nn.functional as F\nfrom torch import nn\n\nctc = nn.CTCLoss()\n"
            "logp = F.log_softmax(net(x), dim=-1).transpose(0, 1)\nloss = ctc(logp, y, n, m)\n",
            after=(
                "import torch.nn.functional as F\nfrom torch import nn\n\nctc = nn.CTCLoss()\n"
                "logp = net(x).transpose(0, 1)\nloss = ctc(logp, y, n, m)\n",
            ),
        ),
    ),
    counterexamples=("y = z.log_softmax(-1)\n", "def f(z):\n    return nll(z.log_softmax(-1))\n"),
)
def ctc_raw(f: SourceFile, node: cst.Call) -> Iterator[Proposal]:
    op = operation(f, node, "log_softmax")
    if op is None:
        return
    home = function_of(f, node)
    losses = [call for call in inside(f.module, cst.Call) if "ctc" in f.text(call.func).lower() and call.args]
    near = any(function_of(f, call) is home for call in losses)
    only = sum(1 for call in inside(f.module, cst.Call) if operation(f, call, "log_softmax")) == 1
    if near or (losses and only):
        yield Proposal(edits=(f.replace(node, f.text(op.subject)),))


@operator(
    "bptt-stride-overlap",
    cst.For,
    cst.AugAssign,
    category="rnn-sequence",
    difficulty=5,
    symptom="Almost nothing shows; some tokens of the text are never asked for.",
    hints=(
        "LOOK: list the positions of all targets of one pass and look for gaps.",
        "WHERE: the step from one window to the next in `{function}`.",
        "WHAT: where does the next window have to begin?",
    ),
    repair="Move on by exactly the length of a window.",
    mechanism=(
        "Each window begins one place too far on. One target in each is skipped, and the state that"
        " is carried over has missed a token, so it belongs to a text with a gap."
    ),
    examples=(
        Example(
            row="bptt-stride-overlap",
            before="for i in range(0, n - 1, T):\n    x, y = w[i : i + T], w[i + 1 : i + T + 1]\n"
            "    f(x, y)\n",
            after=(
                "for i in range(0, n - 1, T + 1):\n    x, y = w[i : i + T], w[i + 1 : i + T + 1]\n"
                "    f(x, y)\n",
            ),
        ),
        Example(
            before="while i < n:\n    x, y = w[:, i : i + T], w[:, i + 1 : i + 1 + T]\n    i += T\n",
            after=("while i < n:\n    x, y = w[:, i : i + T], w[:, i + 1 : i + 1 + T]\n    i += T + 1\n",),
        ),
    ),
    counterexamples=(
        "for i in range(0, n, B):\n    f(x[i : i + B])\n",
        "while i < n:\n    i += 2\n",
    ),
)
def bptt_stride(f: SourceFile, node: cst.For | cst.AugAssign) -> Iterator[Proposal]:
    if isinstance(node, cst.For):
        steps = node.iter
        if not isinstance(steps, cst.Call) or f.text(steps.func) != "range" or len(steps.args) != 3:
            return
        stride, name, body = steps.args[2].value, f.text(node.target), node.body
    else:
        loop = loop_of(f, node)
        if loop is None or not isinstance(node.operator, cst.AddAssign):
            return
        stride, name, body = node.value, f.text(node.target), loop.body
    if asks_for_next(f, body, name):
        yield Proposal(edits=(f.replace(stride, f"{f.text(stride)} + 1"),))


def asks_for_next(f: SourceFile, body: cst.CSTNode, name: str) -> bool:
    """Whether windows begin at a position, and their targets at the one after it."""
    starts = {
        f.text(part.lower).replace(" ", "")
        for part in inside(body, cst.Slice)
        if part.lower is not None and part.upper is not None
    }
    return {name, f"{name}+1"} <= starts


@operator(
    "eos-not-appended",
    cst.List,
    cst.BinaryOperation,
    cst.SimpleStatementLine,
    category="rnn-sequence",
    difficulty=2,
    symptom="What is generated begins well and never ends.",
    hints=(
        "LOOK: print the last token of some targets.",
        "WHERE: how `{function}` puts a sequence together.",
        "WHAT: from which example could the model learn when to stop?",
    ),
    repair="End each target with the token that means the end.",
    mechanism=(
        "The end is a token like any other and must be learned like any other. If no target holds"
        " it, the model never chooses it, and generation runs until the limit."
    ),
    examples=(
        Example(
            row="eos-not-appended",
            before="y = [BOS, *ids, EOS]\n",
            after=("y = [BOS, *ids]\n",),
        ),
        Example(before="y = ids + [vocab.eos]\n", after=("y = ids\n",)),
        Example(before="ids.append(EOS)\nn = len(ids)\n", after=("n = len(ids)\n",)),
    ),
    counterexamples=("special = [EOS]\n", "y = ids + [pad]\n", "special = [PAD, BOS, EOS]\n"),
)
def no_eos(
    f: SourceFile, node: cst.List | cst.BinaryOperation | cst.SimpleStatementLine
) -> Iterator[Proposal]:
    if isinstance(node, cst.List):
        starred = any(isinstance(each, cst.StarredElement) for each in node.elements)
        if starred and len(node.elements) > 1 and ends(f, node.elements[-1].value):
            last, previous = node.elements[-1], node.elements[-2]
            start = f.index.span(previous.value)[1]
            yield Proposal(edits=(f.edit(start, f.span(last.value)[1], ""),))
    elif isinstance(node, cst.BinaryOperation):
        tail = node.right.elements if isinstance(node.right, cst.List) else ()
        if len(tail) == 1 and isinstance(node.operator, cst.Add) and ends(f, tail[0].value):
            yield Proposal(edits=(f.replace(node, f.text(node.left)),))
    else:
        call = called(node)
        given = call.args if call is not None and last_name(call.func) == "append" else ()
        if len(given) == 1 and ends(f, given[0].value):
            yield Proposal(edits=(f.delete_statement(node),))


def ends(f: SourceFile, node: cst.BaseExpression) -> bool:
    """Whether an expression is the token that ends a sequence."""
    text = f.text(node)
    return bool(words(text) & STOPS) or text.strip("\"'") in ("</s>", "$")
