"""Facts are read off a run of the instrumented text, which computes what the plain text does."""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
from bughunt_mutator import Fact, instrument, parse_facts, plain_facts
from bughunt_mutator.facts import Places, Seen, told

PROGRAM = '''"""A program with a little of everything."""
from __future__ import annotations

import math
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Config:
    steps: int = 2 + 1
    names: list[str] = field(default_factory=list)


class Base:
    def __init__(self, n, *, scale=math.pi / 2):
        self.n = n
        self.scale = scale


class Child(Base):
    def __init__(self, n: int = len("ß")) -> None:
        super().__init__(n)
        self.__hidden = n + 1

    @property
    def shown(self):
        return f"{self.__hidden:>{self.n}} {'ü' + str(self.n)}"


def walk(items, *rest, **words):
    """Yields."""
    total = 0
    for place, (one, two) in enumerate(items):
        if (bound := one * two) > 1 and not place:
            total += bound
        elif two:
            total = -total
        match one:
            case 1 | 2:
                total -= 1
            case Base(n=0) as found:
                total += found.n
            case _ if one > 3:
                continue
        yield total
    yield from rest
    yield [each ** 2 for each in range(3) if each % 2], {k: v for k, v in words.items()}
    yield items[1:-1], items[0][1]
    try:
        [][0]
    except (IndexError, KeyError) as error:
        yield type(error).__name__
    yield (lambda a, b=total: a + b)(1), sorted((3, 1, 2), key=lambda n: -n), sum(n for n in (1, 2))


def answers():
    child = Child(3)
    child.n, second = 4, [1, 2]
    second[0] += child.n
    del second[1]
    return [*walk([(1, 2), (3, 0), (5, 6)], "x", *"yz", k=1), child.shown, second, Config(), ("é" * 2)[-1]]
'''


class Recorder(ModuleType):
    def __init__(self) -> None:
        super().__init__("recorder")
        self.seen: dict[int, list[object]] = {}

    def see(self, number: int, value: object) -> object:
        self.seen.setdefault(number, []).append(value)
        return value


def run(text: str) -> object:
    names: dict[str, object] = {"__name__": "program"}
    sys.modules["program"] = module = ModuleType("program")
    module.__dict__.update(names)
    exec(compile(text, "program", "exec", dont_inherit=True), module.__dict__)
    found = module.__dict__["answers"]()
    return json.loads(json.dumps(found, default=lambda value: repr(vars(value))))


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    found = Recorder()
    monkeypatch.setitem(sys.modules, "recorder", found)
    return found


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_an_instrumented_program_computes_what_the_plain_one_does(recorder: Recorder, ending: str) -> None:
    text = PROGRAM.replace("\n", ending)
    made = instrument(text, "recorder")
    assert made is not None
    assert run(made.text) == run(text)
    assert len(recorder.seen) > 0.9 * len(made.spans)


def test_every_number_stands_for_the_expression_at_its_span(recorder: Recorder) -> None:
    """What a name or a call of no side effect was is what its text evaluates to at the end."""
    text = "x = 'é'\ny = x * 2; z = len(y) + 1\nw = [z, (x,\n  -z)]\n"
    made = instrument(text, "recorder", first=7)
    assert made is not None
    names: dict[str, object] = {}
    exec(made.text, names)
    assert [text[start:end] for start, end in made.spans] == [
        "x * 2",
        "x",
        "len(y) + 1",
        "len(y)",
        "y",
        "z",
        "x",
        "-z",
        "z",
    ]
    for number, (start, end) in enumerate(made.spans, 7):
        assert recorder.seen[number] == [eval(text[start:end], names)]


def test_a_byte_order_mark_does_not_shift_spans() -> None:
    made = instrument("\ufeffy = f(x)\n", "recorder")
    assert made is not None
    assert made.text.startswith("\ufefffrom recorder import see")
    assert made.spans == ((5, 9), (7, 8))


@pytest.mark.parametrize(
    "text", ["", '"""Words."""\n', "from __future__ import annotations\n", '"""W"""; x = y\n']
)
def test_a_text_without_a_place_for_the_import_is_left_alone(text: str) -> None:
    assert instrument(text, "recorder") is None


def test_a_name_of_the_text_is_not_taken_for_the_recorder() -> None:
    made = instrument("see_value = 3\ny = see_value\n", "recorder")
    assert made is not None
    assert "import see as see_value_\n" in made.text


LIBRARY = sorted(Path(ast.__file__).parent.glob("*.py"))[::9]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("path", LIBRARY, ids=lambda path: path.name)
def test_a_file_of_the_standard_library_still_compiles(path: Path) -> None:
    made = instrument(path.read_text(encoding="utf-8"), "recorder")
    if made is not None:
        compile(made.text, path.name, "exec")


def test_facts_survive_being_written_down() -> None:
    facts = {
        (0, 3): Seen((Fact("tensor", (2, 0), "float32", True), Fact("tensor", ())), (0, 1, 0)),
        (4, 5): Seen((Fact("int", value=3),)),
        (6, 9): Seen((Fact("tuple", value=(1, 2)), Fact("array", None, "int64"))),
    }
    assert parse_facts(json.loads(json.dumps(plain_facts(facts)))) == facts


@pytest.mark.parametrize(
    "noted",
    [
        [{"start": 0, "end": 1}],
        [{"start": "0", "end": 1, "seen": [], "order": []}],
        [{"start": 0, "end": 1, "seen": [3], "order": []}],
        [{"start": 0, "end": 1, "seen": [], "order": [0]}],
    ],
)
def test_what_are_no_facts_is_refused(noted: list[dict[str, object]]) -> None:
    with pytest.raises(ValueError, match="no facts"):
        parse_facts(noted)


def test_facts_can_be_told_in_short() -> None:
    text = "y = x.mean(0) * n\n"
    assert told(text, {"x": "float32 4 3 grad", "n": "int 4"}) == {
        (4, 5): Seen((Fact("tensor", (4, 3), "float32", True),)),
        (16, 17): Seen((Fact("int", value=4),)),
    }


def test_places_count_characters_and_not_bytes() -> None:
    text = "a = 'äöü' + b\r\nc = d\n"
    places = Places(text)
    found = [text[slice(*places.span(node))] for node in ast.walk(places.tree) if isinstance(node, ast.Name)]
    assert sorted(found) == ["a", "b", "c", "d"]
