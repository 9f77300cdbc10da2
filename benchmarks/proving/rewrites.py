"""Right programs written differently: each rewrite keeps what a program computes.

Every rewrite takes the files of a correct program and a generator and gives the changed files, or None where
it finds nothing to change. `EXACT` ones keep every bit, `CLOSE` ones round differently, `DRAWS` ones only
draw the first weights in another order. What is claimed here is proved for each file by `proofs`.
`other_draws` comes after the proof: what it keeps is the distribution, by construction.
"""

import ast
import random
import re
from collections.abc import Callable, Mapping, Sequence

import libcst as cst
import libcst.matchers as m
from bughunt_mutator import DisguiseError, disguise_tree

Files = Mapping[str, str]
Rewrite = Callable[[Files, random.Random], "dict[str, str] | None"]
CONTRACT = frozenset({"Config", "build", "train", "predict"})
LAYER = re.compile(r"^        self\.(\w+) = nn\.\w+\(.*\)\n", re.MULTILINE)
NUMPYS_GENERATOR = re.compile(r"from numpy\.random import .*\bGenerator\b|\bnp\.random\.Generator\b")
CROSS_ENTROPY = re.compile(
    r"F\.cross_entropy\(([^,()]+(?:\([^()]*\))?(?:\.flatten\(0, 1\))?), ([^,()]+(?:\(\))?)\)"
)
SQUARED = re.compile(r"F\.mse_loss\(([^,()]+(?:\([^()]*\))?), ([^,()]+(?:\([^()]*\))?)\)")


def named_results(files: Files, rng: random.Random) -> dict[str, str] | None:
    """What is returned gets a name first."""
    return _visit(files, lambda: _NamedResults(rng))


def swapped_factors(files: Files, rng: random.Random) -> dict[str, str] | None:
    """`a * b` becomes `b * a`."""
    return _visit(files, lambda: _SwappedFactors(rng))


def flipped_comparisons(files: Files, rng: random.Random) -> dict[str, str] | None:
    """`a < b` becomes `b > a`."""
    return _visit(files, lambda: _FlippedComparisons(rng))


def called_products(files: Files, rng: random.Random) -> dict[str, str] | None:
    """`a @ b` becomes `torch.matmul(a, b)`, or NumPy's."""
    return _visit(files, lambda: _CalledProducts(rng))


def turned_conditions(files: Files, rng: random.Random) -> dict[str, str] | None:
    """`if c: A else: B` becomes `if not c: B else: A`."""
    return _visit(files, lambda: _TurnedConditions(rng))


def disguised(files: Files, rng: random.Random, keep: frozenset[str] = frozenset()) -> dict[str, str] | None:
    """Other names for everything local."""
    try:
        return dict(disguise_tree(files, rng.randrange(2**31), keep=CONTRACT | keep).files)
    except DisguiseError:
        return None


def renamed_layers(files: Files, rng: random.Random) -> dict[str, str] | None:
    """Other names for some layers, and so for their parameters."""
    names = sorted({name for text in files.values() for name in LAYER.findall(text)})
    if not names:
        return None
    for name in rng.sample(names, rng.randint(1, len(names))):
        files = {path: re.sub(rf"\bself\.{name}\b", f"self.{name}_", text) for path, text in files.items()}
        if any(re.search(rf"\.{name}\b", text) for text in files.values()):
            return None
    return dict(files)


def manual_cross_entropy(files: Files, _rng: random.Random) -> dict[str, str] | None:
    """Cross entropy as the negative log-likelihood of a log-softmax."""
    return _substitute(files, CROSS_ENTROPY, r"F.nll_loss(\1.log_softmax(-1), \2)")


def gathered_cross_entropy(files: Files, _rng: random.Random) -> dict[str, str] | None:
    """Cross entropy picked out by hand."""
    return _substitute(files, CROSS_ENTROPY, r"-\1.log_softmax(-1).gather(-1, (\2)[:, None]).mean()")


def manual_squared_error(files: Files, _rng: random.Random) -> dict[str, str] | None:
    return _substitute(files, SQUARED, r"((\1) - (\2)).pow(2).mean()")


def reordered_construction(files: Files, rng: random.Random) -> dict[str, str] | None:
    """Two neighbouring layers change places in `__init__`."""
    path = "train.py"
    pairs = re.compile(
        r"^        self\.(\w+) = nn\.(?!Module)\w+\([^\n]*\)\n        self\.(\w+) = nn\.\w+\([^\n]*\)\n",
        re.MULTILINE,
    )
    found = list(pairs.finditer(files[path]))
    if not found:
        return None
    lines = (chosen := rng.choice(found)).group().splitlines(keepends=True)
    if re.search(rf"self\.{chosen.group(1)}\b", lines[1]):
        return None
    text = files[path]
    return {**files, path: text[: chosen.start()] + lines[1] + lines[0] + text[chosen.end() :]}


def extra_draw(files: Files, rng: random.Random) -> dict[str, str] | None:
    """`build` draws a few numbers that nobody uses."""
    source = "torch.rand" if "import torch" in files["train.py"] else "np.random.rand"
    count = rng.randint(1, 9)
    return _begun_with(files, "build", lambda _text, _function: [f"{source}({count})"])


def other_draws(files: Files, rng: random.Random) -> dict[str, str] | None:
    """`train` first draws a few numbers that nobody uses, so all later ones are others of the same kind.

    Batches, noise and dropout fall out differently, as in a repair that asks for its numbers in another way.
    """
    count = rng.randint(1, 9)

    def drawn(text: str, function: ast.FunctionDef) -> list[str]:
        generator = function.args.args[3].arg
        if NUMPYS_GENERATOR.search(text):
            return [f"{generator}.random({count})"]
        return [f"torch.rand({count}, generator={generator})", f"torch.rand({count})"]

    return _begun_with(files, "train", drawn)


def _begun_with(
    files: Files, name: str, lines: Callable[[str, ast.FunctionDef], Sequence[str]]
) -> dict[str, str] | None:
    """The function of this name begins with these lines, after what it says of itself."""
    for path, text in files.items():
        for node in ast.parse(text).body:
            if isinstance(node, ast.FunctionDef) and node.name == name:
                first = node.body[1 if ast.get_docstring(node) else 0].lineno - 1
                old = text.splitlines(keepends=True)
                new = [f"    {line}\n" for line in lines(text, node)]
                return {**files, path: "".join([*old[:first], *new, *old[first:]])}
    return None


EXACT: Mapping[str, Rewrite] = {
    "named-results": named_results,
    "swapped-factors": swapped_factors,
    "flipped-comparisons": flipped_comparisons,
    "called-products": called_products,
    "turned-conditions": turned_conditions,
    "disguised": disguised,
    "renamed-layers": renamed_layers,
}
CLOSE: Mapping[str, Rewrite] = {
    "manual-cross-entropy": manual_cross_entropy,
    "gathered-cross-entropy": gathered_cross_entropy,
    "manual-squared-error": manual_squared_error,
}
DRAWS: Mapping[str, Rewrite] = {
    "reordered-construction": reordered_construction,
    "extra-draw": extra_draw,
}
ALL: Mapping[str, Rewrite] = {**EXACT, **CLOSE, **DRAWS}


def written_differently(
    files: Files, seed: int, keep: frozenset[str] = frozenset()
) -> tuple[tuple[str, ...], dict[str, str]] | None:
    """One to four rewrites, chosen by the seed, one after the other; None where none of them fits."""
    rng = random.Random(seed)
    now, done = dict(files), []
    for name in rng.sample(sorted(ALL), rng.randint(1, 4)):
        changed = disguised(now, rng, keep) if name == "disguised" else ALL[name](now, rng)
        if changed is not None and changed != now:
            now = changed
            done.append(name)
    return (tuple(sorted(done)), now) if done else None


def _substitute(files: Files, pattern: re.Pattern[str], by: str) -> dict[str, str] | None:
    changed = {path: pattern.sub(by, text) for path, text in files.items()}
    return None if changed == files else changed


def _visit(files: Files, visitor: Callable[[], cst.CSTTransformer]) -> dict[str, str] | None:
    changed = {path: cst.parse_module(text).visit(visitor()).code for path, text in files.items()}
    return None if changed == files else changed


def _still(node: cst.CSTNode) -> bool:
    """Whether evaluating an expression earlier or later is the same."""
    return not m.findall(node, m.Call() | m.Await() | m.Yield() | m.NamedExpr())


class _Sometimes(cst.CSTTransformer):
    def __init__(self, rng: random.Random) -> None:
        super().__init__()
        self.rng = rng

    def chosen(self) -> bool:
        return self.rng.random() < 0.6


class _NamedResults(_Sometimes):
    def leave_SimpleStatementLine(
        self, original_node: cst.SimpleStatementLine, updated_node: cst.SimpleStatementLine
    ) -> cst.SimpleStatementLine | cst.FlattenSentinel[cst.SimpleStatementLine]:
        match updated_node.body:
            case [cst.Return(value=cst.BaseExpression() as value)] if not m.matches(value, m.Name()):
                if self.chosen():
                    assign = cst.Assign([cst.AssignTarget(cst.Name("outcome_"))], _bracketed(value))
                    first = cst.SimpleStatementLine([assign], leading_lines=updated_node.leading_lines)
                    second = updated_node.with_changes(
                        body=[cst.Return(cst.Name("outcome_"))], leading_lines=[]
                    )
                    return cst.FlattenSentinel([first, second])
        return updated_node


def _bracketed(value: cst.BaseExpression) -> cst.BaseExpression:
    if value.lpar:
        return value
    return value.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])


class _SwappedFactors(_Sometimes):
    def leave_BinaryOperation(
        self, original_node: cst.BinaryOperation, updated_node: cst.BinaryOperation
    ) -> cst.BaseExpression:
        left, right = updated_node.left, updated_node.right
        if not isinstance(updated_node.operator, cst.Multiply) or not (_still(left) and _still(right)):
            return updated_node
        if not self.chosen():
            return updated_node
        return updated_node.with_changes(left=_closed(right), right=_closed(left))


def _closed(value: cst.BaseExpression) -> cst.BaseExpression:
    simple = m.Name() | m.Attribute() | m.Subscript() | m.Call() | m.Integer() | m.Float()
    return value if m.matches(value, simple) else _bracketed(value)


class _FlippedComparisons(_Sometimes):
    FLIPS: Mapping[type[cst.BaseCompOp], type[cst.BaseCompOp]] = {
        cst.LessThan: cst.GreaterThan,
        cst.GreaterThan: cst.LessThan,
        cst.LessThanEqual: cst.GreaterThanEqual,
        cst.GreaterThanEqual: cst.LessThanEqual,
    }

    def leave_Comparison(
        self, original_node: cst.Comparison, updated_node: cst.Comparison
    ) -> cst.BaseExpression:
        match updated_node.comparisons:
            case [cst.ComparisonTarget(operator=operator, comparator=right)]:
                flip = self.FLIPS.get(type(operator))
                if flip and _still(updated_node.left) and _still(right) and self.chosen():
                    target = cst.ComparisonTarget(flip(), _closed(updated_node.left))
                    return updated_node.with_changes(left=_closed(right), comparisons=[target])
        return updated_node


class _CalledProducts(_Sometimes):
    module = "torch"

    def visit_Module(self, node: cst.Module) -> None:
        self.module = "torch" if re.search(r"^import torch$", node.code, re.MULTILINE) else "np"

    def leave_BinaryOperation(
        self, original_node: cst.BinaryOperation, updated_node: cst.BinaryOperation
    ) -> cst.BaseExpression:
        if not isinstance(updated_node.operator, cst.MatrixMultiply) or not self.chosen():
            return updated_node
        called = cst.Attribute(cst.Name(self.module), cst.Name("matmul"))
        return cst.Call(called, [cst.Arg(updated_node.left), cst.Arg(updated_node.right)])


class _TurnedConditions(_Sometimes):
    def leave_If(self, original_node: cst.If, updated_node: cst.If) -> cst.If:
        if not isinstance(updated_node.orelse, cst.Else) or not self.chosen():
            return updated_node
        first, second = updated_node.body, updated_node.orelse.body
        turned = cst.UnaryOperation(cst.Not(), _bracketed(updated_node.test))
        orelse = updated_node.orelse.with_changes(body=first)
        return updated_node.with_changes(test=turned, body=second, orelse=orelse)

    def leave_IfExp(self, original_node: cst.IfExp, updated_node: cst.IfExp) -> cst.IfExp:
        if not self.chosen():
            return updated_node
        turned = cst.UnaryOperation(cst.Not(), _bracketed(updated_node.test))
        return updated_node.with_changes(test=turned, body=updated_node.orelse, orelse=updated_node.body)
