"""Values cross the wire equal to the bit; whatever else arrives is refused."""

import json
import math
import socket
import struct
import threading
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hostile_frames import check, frames
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bughunt.judge import wire
from bughunt.judge.deadline import Deadline


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def crossed(value: object, *, handles: bool = False) -> object:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        sender = threading.Thread(target=wire.send_frame, args=(ours, wire.encode(value)))
        sender.start()
        try:
            return wire.receive(theirs, Deadline(20), handles=handles)
        finally:
            sender.join()


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.binary(max_size=9)
)
keys = st.text(st.characters(exclude_categories=["Cs"]), max_size=5) | st.integers()
values = st.recursive(
    scalars,
    lambda part: (
        st.lists(part, max_size=4)
        | st.tuples(part, part)
        | st.dictionaries(keys | st.tuples(keys, keys), part, max_size=4)
    ),
    max_leaves=20,
)


def typed(value: object) -> object:
    """The value with its types written out, since True == 1 == 1.0."""
    if isinstance(value, list | tuple):
        return type(value).__name__, [typed(part) for part in value]
    if isinstance(value, dict):
        return [(typed(key), typed(part)) for key, part in value.items()]
    return type(value).__name__, repr(value)


@given(values)
def test_plain_values_arrive_with_their_types(value: object) -> None:
    assert typed(crossed(value)) == typed(value)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, -0.0, 5e-324, 0.1])
def test_a_float_arrives_to_the_bit(number: float) -> None:
    assert struct.pack("d", crossed(number)) == struct.pack("d", number)


@pytest.mark.parametrize("dtype", wire.TORCH_NAMES, ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 5), (2, 3, 4)], ids=str)
def test_a_tensor_arrives_to_the_bit(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    tensor = (torch.randn(shape) * 50).to(dtype)
    arrived = crossed(tensor)
    assert isinstance(arrived, torch.Tensor)
    assert (arrived.dtype, arrived.shape) == (dtype, tensor.shape)
    assert torch.equal(arrived, tensor)


@pytest.mark.parametrize("dtype", wire.NUMPY_NAMES, ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (2, 3)], ids=str)
def test_an_array_arrives_to_the_bit(dtype: np.dtype, shape: tuple[int, ...]) -> None:
    array = np.asarray(np.random.default_rng(0).normal(size=shape) * 50).astype(dtype)
    arrived = crossed(array)
    assert isinstance(arrived, np.ndarray)
    assert (arrived.dtype, arrived.shape) == (dtype, shape)
    np.testing.assert_array_equal(arrived, array)


def test_views_arrive_as_what_they_show() -> None:
    matrix = torch.arange(12.0).reshape(3, 4)
    arrived = crossed([matrix.t(), matrix[:, ::2], matrix[0].expand(2, 4), matrix.numpy().T])
    assert [part.tolist() for part in arrived] == [
        [[0, 4, 8], [1, 5, 9], [2, 6, 10], [3, 7, 11]],
        [[0, 2], [4, 6], [8, 10]],
        [[0, 1, 2, 3], [0, 1, 2, 3]],
        [[0, 4, 8], [1, 5, 9], [2, 6, 10], [3, 7, 11]],
    ]


def test_a_parameter_arrives_as_a_tensor_without_history() -> None:
    arrived = crossed(torch.nn.Parameter(torch.ones(2)))
    assert type(arrived) is torch.Tensor
    assert not arrived.requires_grad


def test_what_arrives_is_writable_and_a_copy() -> None:
    tensor, array = torch.zeros(3), np.zeros(3)
    for arrived in crossed([tensor, array]):
        arrived += 1
    assert tensor.sum() == array.sum() == 0


def test_numpy_scalars_arrive_as_numbers() -> None:
    arrived = crossed([np.float32(0.5), np.int64(7), np.bool_(True)])
    assert typed(arrived) == typed([0.5, 7, True])


class AlwaysEqual(float):
    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = float.__hash__


@pytest.mark.parametrize(
    "value",
    [
        object(),
        {1, 2},
        AlwaysEqual(0),
        iter([]),
        torch.nn.Linear(1, 1),
        torch.empty(2, device="meta"),
        torch.eye(2).to_sparse(),
        np.array(["text"]),
        np.array([object()]),
        10**5000,
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_not_plain_data_is_not_sent(value: object) -> None:
    with pytest.raises(wire.UnsendableError):
        wire.encode({"inside": [value]})


def test_a_value_that_contains_itself_is_not_sent() -> None:
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(wire.UnsendableError):
        wire.encode(loop)


def frame(header: object, *blobs: bytes) -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<I", len(raw)) + raw + b"".join(blobs)


HOSTILE = {
    "no json": frame(b"\xff\xfe{"),
    "no object": frame([1, 2]),
    "a key missing": frame({"v": 1}),
    "deep brackets": frame(b"[" * 100_000),
    "deep value": frame(b'{"n":[],"v":' + b"[" * 60 + b"]" * 60 + b"}"),
    "many parts": frame({"v": [0] * 200_000, "n": []}),
    "header too long": struct.pack("<I", 1 << 31),
    "blobs too long": frame({"v": 1, "n": [1 << 40]}),
    "negative blob": frame({"v": 1, "n": [-5]}),
    "blob lengths as text": frame({"v": 1, "n": ["3"]}),
    "unknown tag": frame({"v": {"#p": "cos\nsystem"}, "n": []}),
    "two tags": frame({"v": {"#f": "0x1", "#u": []}, "n": []}),
    "a handle": frame({"v": {"#h": 1}, "n": []}),
    "bare float": frame({"v": 0.5, "n": []}),
    "float of nonsense": frame({"v": {"#f": "zero"}, "n": []}),
    "float of a list": frame({"v": {"#f": [1]}, "n": []}),
    "unknown dtype": frame({"v": {"#t": ["O", [1], 0]}, "n": [1]}, b"x"),
    "shape beyond the blob": frame({"v": {"#t": ["f4", [1 << 20], 0]}, "n": [4]}, b"abcd"),
    "negative shape": frame({"v": {"#t": ["f4", [-1, -1], 0]}, "n": [4]}, b"abcd"),
    "shape that overflows": frame({"v": {"#a": ["f4", [0, 1 << 62, 1 << 62], 0]}, "n": [0]}),
    "no such blob": frame({"v": {"#t": ["f4", [1], 7]}, "n": [4]}, b"abcd"),
    "true as a blob": frame({"v": {"#t": ["f4", [1], False]}, "n": [4]}, b"abcd"),
    "list as a key": frame({"v": {"#d": [[[1], 2]]}, "n": []}),
    "tensor as a key": frame({"v": {"#d": [[{"#t": ["u1", [1], 0]}, 2]]}, "n": [1]}, b"a"),
    "key twice": frame({"v": {"#d": [["a", 1], ["a", 2]]}, "n": []}),
    "pair of three": frame({"v": {"#d": [["a", 1, 2]]}, "n": []}),
    "lone surrogate": frame(b'{"v": "\\ud800", "n": []}'),
    "endless integer": frame(b'{"n":[],"v":' + b"9" * 5000 + b"}"),
}


@pytest.mark.attack
@pytest.mark.parametrize("raw", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_frame_is_refused(raw: bytes, ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    sender = threading.Thread(target=ours.sendall, args=(raw,))
    sender.start()
    with pytest.raises(wire.MalformedError):
        wire.receive(theirs, Deadline(20))
    theirs.close()
    sender.join()


def test_a_handle_is_understood_where_it_is_expected() -> None:
    assert crossed([wire.Handle(5)], handles=True) == [wire.Handle(5)]


def test_a_frame_cut_short_is_the_end_of_the_channel(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = ends
    ours.sendall(wire.encode("hello")[:-2])
    ours.close()
    with pytest.raises(EOFError):
        wire.receive(theirs, Deadline(20))


def test_a_byte_now_and_then_does_not_extend_the_deadline(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = ends
    stop = threading.Event()

    def trickle() -> None:
        for byte in wire.encode("x" * 1000):
            if stop.wait(0.02):
                return
            ours.send(bytes([byte]))

    sender = threading.Thread(target=trickle)
    sender.start()
    with pytest.raises(TimeoutError):
        wire.receive(theirs, Deadline(0.3))
    stop.set()
    sender.join()


@pytest.mark.attack
@settings(max_examples=1500, suppress_health_check=list(HealthCheck))
@given(frames)
def test_whatever_arrives_is_a_value_a_refusal_or_the_end(raw: bytes) -> None:
    assert check(raw) in ("a value", "refused", "cut short")
