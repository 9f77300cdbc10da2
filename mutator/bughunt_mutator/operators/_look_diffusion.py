"""Looking at diffusion models: the noise schedule, and the calls that ask the network about a level."""

from __future__ import annotations

from functools import lru_cache

import libcst as cst

from bughunt_mutator.operators._look import assigned, function_of, inside, last_name, operation
from bughunt_mutator.operators._look_meaning import base, everywhere, pieces
from bughunt_mutator.source import SourceFile

SIGNAL = (
    {"cumprod"}, {"alpha", "bar"}, {"alphas", "bar"}, {"alpha", "bars"}, {"alphas", "bars"}, {"alpha", "hat"},
    {"abar"}, {"alphabar"}, {"acp"},
)  # fmt: skip
LEVELS = ("t", "ts", "tt", "timestep", "timesteps", "level", "levels", "time", "times")
NETS = ("model", "net", "network", "denoiser", "denoise", "unet", "eps", "fn", "average", "ema")
CASTS = ("to", "float", "double", "clone", "contiguous", "view", "reshape", "unsqueeze", "numpy", "gather")


def spelled_signal(name: str) -> bool:
    """Whether a name says that it is the share of the signal that is left."""
    said = pieces(name)
    return any(spelling <= said for spelling in SIGNAL) and "one" not in said and "sqrt" not in said


@lru_cache(maxsize=16)
def signal_names(f: SourceFile) -> frozenset[str]:
    """The names that stand for a cumulative product, or for a piece of one."""
    found = {name.value for name in everywhere(f, cst.Name) if spelled_signal(name.value)}
    size = -1
    while size != len(found):
        size = len(found)
        for line in everywhere(f, cst.SimpleStatementLine):
            pair = assigned(line)
            if pair is not None and is_piece(f, pair[1], found) and last_name(pair[0]):
                found.add(last_name(pair[0]))
        for call in everywhere(f, cst.Call):
            if last_name(call.func) == "register_buffer" and len(call.args) > 1:
                key = call.args[0].value
                if isinstance(key, cst.SimpleString) and is_piece(f, call.args[1].value, found):
                    found.add(str(key.evaluated_value))
    return frozenset(found)


def is_piece(f: SourceFile, node: cst.BaseExpression, known: set[str] | frozenset[str]) -> bool:
    """Whether an expression is a cumulative product, one of these names, or taken from them."""
    if operation(f, node, "cumprod") is not None:
        return True
    while True:
        if isinstance(node, cst.Subscript):
            node = node.value
        elif (
            isinstance(node, cst.Call)
            and last_name(node.func) in ("extract", "gather_at", "take")
            and node.args
        ):
            node = node.args[0].value
        elif isinstance(node, cst.Call) and isinstance(node.func, cst.Attribute):
            if node.func.attr.value not in CASTS:
                return False
            node = node.func.value
        else:
            return isinstance(node, cst.Name | cst.Attribute) and last_name(node) in known


def is_signal(f: SourceFile, node: cst.CSTNode | None) -> bool:
    """Whether an expression is the share of the signal that is left at some level, or at all."""
    if not isinstance(node, cst.BaseExpression):
        return False
    return is_piece(f, node, signal_names(f))


def is_level(f: SourceFile, node: cst.CSTNode | None) -> bool:
    """Whether a name stands for the noise levels of a batch in its function."""
    if not isinstance(node, cst.Name) or pieces(node.value).isdisjoint(LEVELS):
        return False
    home = function_of(f, node)
    for each in inside(home, cst.Subscript):
        if is_signal(f, each.value) and any(node.value == name.value for name in inside(each, cst.Name)):
            return True
    return any(diffuses(call, node.value) for call in inside(home, cst.Call))


def diffuses(call: cst.Call, name: str) -> bool:
    """Whether a call draws noise levels, or noises samples up to them."""
    word = last_name(call.func)
    if word in ("extract", "q_sample", "add_noise", "diffuse", "noise_images", "forward_diffusion", "full"):
        return (
            any(name == each.value for arg in call.args for each in inside(arg, cst.Name)) or word == "full"
        )
    return word == "randint"


def asked(node: cst.Call) -> cst.Arg | None:
    """The level that a network is asked about, if the node asks one."""
    callee = base(node.func) if isinstance(node.func, cst.Subscript) else node.func
    if pieces(last_name(callee)).isdisjoint(NETS) or len(node.args) < 2:
        return None
    return node.args[1]
