"""A recorder of facts: runs beside an instrumented program, in its process, and knows nothing of the judge.

`see` gives its value back untouched and keeps no reference to it. It asks a value only for what it has at
hand: its type, and of arrays shape, dtype and whether it needs a gradient.
"""

from typing import TypeAlias, TypeVar

Value = TypeVar("Value")
Fact: TypeAlias = tuple[str, tuple[int, ...] | None, str, bool, int | tuple[int, ...] | None]

MOST = 24  # different facts about one expression
TIMES = 400  # that an expression is looked at
ORDERED = 64  # times of which the order is kept
ARRAYS = {"Tensor": "tensor", "Parameter": "tensor", "ndarray": "array"}
HOMES = ("torch", "numpy")

_found: dict[int, list[Fact]] = {}
_order: dict[int, list[int]] = {}
_times: dict[int, int] = {}
_varied: set[int] = set()
_kinds: dict[type, str] = {}


def see(number: int, value: Value) -> Value:
    """The value; what it is has been noted under the number of its expression."""
    times = _times.get(number, 0)
    if times < TIMES:
        _times[number] = times + 1
        _note(number, _vague(_fact(value)) if number in _varied else _fact(value), times)
    return value


def _note(number: int, fact: Fact, times: int) -> None:
    known = _found.setdefault(number, [])
    if fact not in known:
        known.append(fact)
        if len(known) > MOST:
            _varied.add(number)
            _order.pop(number, None)
            _found[number] = list(dict.fromkeys(_vague(each) for each in known))
    if times < ORDERED and number not in _varied:
        _order.setdefault(number, []).append(known.index(fact))


def facts() -> list[tuple[int, list[Fact], list[int]]]:
    """What was seen: a number, its facts (kind, shape, dtype, gradient, value), and in which order."""
    return [(number, found, _order.get(number, [])) for number, found in sorted(_found.items())]


def _fact(value: object) -> Fact:
    kind = _kind(type(value))
    if kind in ("tensor", "array"):
        shape = tuple(int(size) for size in getattr(value, "shape", ()))
        dtype = str(getattr(value, "dtype", "")).rpartition(".")[2]
        return kind, shape, dtype, getattr(value, "requires_grad", False) is True, None
    if type(value) is int:
        return kind, None, "", False, value if abs(value) < 1 << 31 else None
    if isinstance(value, tuple) and kind in ("tuple", "Size"):
        return kind, None, "", False, _sizes(value)
    return kind, None, "", False, None


def _kind(type_: type) -> str:
    """The name of a type; arrays by whatever class of their family."""
    if type_ not in _kinds:
        family = (each for each in type_.__mro__ if each.__module__.split(".")[0] in HOMES)
        array = next((ARRAYS[each.__name__] for each in family if each.__name__ in ARRAYS), None)
        _kinds[type_] = array or type_.__name__
    return _kinds[type_]


def _sizes(value: tuple[object, ...]) -> tuple[int, ...] | None:
    """A short tuple of ints as it is."""
    sizes = tuple(each for each in value if type(each) is int)
    return sizes if len(value) == len(sizes) <= 8 else None


def _vague(fact: Fact) -> Fact:
    """A fact without what varies."""
    return fact[0], None, fact[2], fact[3], None
