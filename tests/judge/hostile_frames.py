"""Frames as a hostile program might send them: right ones, wrong in one place, and noise."""

import contextlib
import json
import socket
import struct

from hypothesis import strategies as st

from bughunt.judge import wire
from bughunt.judge.deadline import Deadline

numbers = st.integers(-3, 9) | st.sampled_from([1 << 31, 1 << 62, 1 << 80, -1]) | st.booleans()
leaves = (
    st.none()
    | numbers
    | st.floats()
    | st.text(max_size=4)
    | st.sampled_from(["0x1.8p3", "nan", "\ud800", "f4", "O"])
)
dtypes = st.sampled_from([*wire.TORCH_DTYPES, *wire.NUMPY_DTYPES, "O", "", 3])
shapes = st.lists(st.integers(0, 4) | numbers, max_size=4) | leaves


def tagged(part: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    """What the decoder gives a meaning to, with contents that fit or do not."""
    array = st.tuples(dtypes, shapes, numbers).map(list)
    pairs = st.lists(st.lists(part, min_size=2, max_size=2), max_size=3)
    contents = {"#f": leaves, "#u": st.lists(part, max_size=3), "#d": pairs, "#t": array, "#a": array}
    contents |= {"#b": numbers, "#h": numbers, "#x": part}
    right = [kind.map(lambda content, tag=tag: {tag: content}) for tag, kind in contents.items()]
    wrong = st.dictionaries(st.sampled_from(list(contents)), part, max_size=2)
    return st.one_of(*right, wrong)


trees = st.recursive(leaves, lambda part: st.lists(part, max_size=4) | tagged(part), max_leaves=12)


@st.composite
def nearly_right(draw: st.DrawFn) -> bytes:
    """A frame that holds together but for what it says."""
    blobs = draw(st.lists(st.binary(max_size=40), max_size=3))
    sizes = draw(st.just([len(blob) for blob in blobs]) | st.lists(numbers, max_size=3) | leaves)
    header = json.dumps(draw(st.just({"v": draw(trees), "n": sizes}) | trees)).encode()
    length = draw(st.just(len(header)) | st.integers(0, len(header) + 9))
    return struct.pack("<I", length) + header + b"".join(blobs)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """One in which a few bytes are others."""
    raw = bytearray(draw(nearly_right()))
    for place in draw(st.lists(st.integers(0, len(raw) - 1), max_size=4)):
        raw[place] = draw(st.integers(0, 255))
    return bytes(raw)


frames = nearly_right() | damaged() | st.binary(max_size=200)


def check(raw: bytes) -> str:
    """What became of the frame; raises what the judge would not know how to take."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(raw)
        ours.shutdown(socket.SHUT_WR)
        try:
            value = wire.receive(theirs, Deadline(5))
        except wire.MalformedError:
            return "refused"
        except EOFError:
            return "cut short"
    # What was let in is plain data, or else it could not be sent again. An integer may be too long for that.
    with contextlib.suppress(wire.UnsendableError):
        wire.encode(value)
    return "a value"
