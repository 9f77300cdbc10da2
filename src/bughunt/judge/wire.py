"""Frames between the judge and a program: plain data in bounded sizes, never code and never pickle.

A frame is `u32 header length | JSON header | raw blobs`. The header holds the value and the length
of each blob. Floats travel as hex text, tensors and arrays as `[dtype, shape, blob]`: a value is equal
on both sides to the bit.
"""

import io
import json
import math
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from bughunt.judge.deadline import Deadline

MAX_HEADER, MAX_BLOBS, MAX_BLOB_COUNT = 4 << 20, 256 << 20, 8192
MAX_DEPTH, MAX_NODES, MAX_DIMENSIONS = 24, 100_000, 16

TORCH_DTYPES = {
    "f2": torch.float16,
    "bf16": torch.bfloat16,
    "f4": torch.float32,
    "f8": torch.float64,
    "i1": torch.int8,
    "i2": torch.int16,
    "i4": torch.int32,
    "i8": torch.int64,
    "u1": torch.uint8,
    "b1": torch.bool,
    "c8": torch.complex64,
    "c16": torch.complex128,
}
NUMPY_DTYPES = {
    name: np.dtype("?" if name == "b1" else f"<{name}")
    for name in ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16")
}
TORCH_NAMES = {dtype: name for name, dtype in TORCH_DTYPES.items()}
NUMPY_NAMES = {dtype: name for name, dtype in NUMPY_DTYPES.items()}

Json = Any  # what the json module reads and writes


class MalformedError(Exception):
    """The other side sent something that is not a frame of plain data."""


class UnsendableError(TypeError):
    """A value is not plain data, or too much of it."""


@dataclass(frozen=True)
class Handle:
    """Stands on the judge's side for an object that stays with the program."""

    number: int


def encode(value: object) -> bytes:
    """The frame of a value; `UnsendableError` where it is not plain data."""
    packer = Packer()
    body = packer.pack(value, 0)
    try:
        header = json.dumps({"v": body, "n": [len(blob) for blob in packer.blobs]}).encode()
    except ValueError as error:  # an integer with more digits than Python prints
        raise UnsendableError(str(error)) from None
    if len(header) > MAX_HEADER:
        raise UnsendableError("a value with too many parts; use one array")
    return struct.pack("<I", len(header)) + header + b"".join(packer.blobs)


class Packer:
    """Turns a value into JSON and blobs."""

    def __init__(self) -> None:
        self.blobs: list[bytes] = []
        self.nodes = 0
        self.size = 0

    def pack(self, item: object, depth: int) -> Json:
        self.nodes += 1
        if depth > MAX_DEPTH or self.nodes > MAX_NODES:
            raise UnsendableError("a value too deep or with too many parts")
        if item is None or type(item) in (bool, int, str):
            return item
        if type(item) is float:
            return {"#f": item.hex()}
        if isinstance(item, np.generic):
            return self.pack(plain_scalar(item), depth)
        if isinstance(item, list):
            return [self.pack(part, depth + 1) for part in item]
        if isinstance(item, tuple):
            return {"#u": [self.pack(part, depth + 1) for part in item]}
        if isinstance(item, dict):
            pairs = item.items()
            return {"#d": [[self.pack(k, depth + 1), self.pack(v, depth + 1)] for k, v in pairs]}
        if isinstance(item, torch.Tensor):
            return {"#t": self.pack_tensor(item)}
        if isinstance(item, np.ndarray):
            return {"#a": self.pack_array(item)}
        if type(item) is bytes:
            return {"#b": self.add(item)}
        if type(item) is Handle:
            return {"#h": item.number}
        raise UnsendableError(f"a value of type {type(item).__name__}")

    def pack_tensor(self, tensor: torch.Tensor) -> Json:
        if tensor.dtype not in TORCH_NAMES or tensor.layout is not torch.strided:
            raise UnsendableError(f"a tensor of {tensor.dtype} ({tensor.layout})")
        if tensor.device.type == "meta":
            raise UnsendableError("a tensor without content (meta)")
        self.make_room(tensor.numel() * tensor.element_size())
        plain = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
        raw = plain.reshape(-1).view(torch.uint8).numpy().tobytes() if plain.numel() else b""
        return [TORCH_NAMES[plain.dtype], list(plain.shape), self.add(raw)]

    def pack_array(self, array: np.ndarray[Any, Any]) -> Json:
        dtype = array.dtype.newbyteorder("<")
        if dtype not in NUMPY_NAMES:
            raise UnsendableError(f"an array of {array.dtype}")
        self.make_room(array.nbytes)
        raw = np.ascontiguousarray(array, dtype).tobytes()
        return [NUMPY_NAMES[dtype], list(array.shape), self.add(raw)]

    def make_room(self, size: int) -> None:
        """Refuse what is too much before it is copied."""
        if self.size + size > MAX_BLOBS or len(self.blobs) >= MAX_BLOB_COUNT:
            raise UnsendableError(f"more than {MAX_BLOBS >> 20} MiB in one value")

    def add(self, blob: bytes) -> int:
        self.make_room(len(blob))
        self.size += len(blob)
        self.blobs.append(blob)
        return len(self.blobs) - 1


def plain_scalar(scalar: np.generic) -> object:
    """Python's own number for one of numpy's."""
    value = scalar.item()
    if type(value) not in (bool, int, float, str, bytes):
        raise UnsendableError(f"a value of type {type(scalar).__name__}")
    return value


def send_frame(sock: socket.socket, frame: bytes, deadline: Deadline | None = None) -> None:
    """Send an encoded value; the deadline is for all of it."""
    rest = memoryview(frame)
    while rest:
        rest = rest[_once(sock, partial(sock.send, rest), deadline) :]


def receive(sock: socket.socket, deadline: Deadline | None = None, *, handles: bool = False) -> object:
    """The next value; the deadline is for the whole frame, a byte now and then does not extend it."""
    return read_frame(lambda size: receive_exactly(sock, size, deadline), handles=handles)


def decode(frame: bytes) -> object:
    """The value of a frame; `MalformedError` where it is none."""
    rest = io.BytesIO(frame)

    def take(size: int) -> bytearray:
        part = bytearray(rest.read(size))
        if len(part) < size:
            raise MalformedError("cut short")
        return part

    return read_frame(take)


def read_frame(take: Callable[[int], bytearray], *, handles: bool = False) -> object:
    """The value that comes with the next bytes."""
    (length,) = struct.unpack("<I", take(4))
    if length > MAX_HEADER:
        raise MalformedError("header too big")
    raw = take(length)
    try:
        header = json.loads(raw)
        value, sizes = header["v"], header["n"]
    except Exception as error:  # whatever json makes of hostile bytes, RecursionError included
        raise MalformedError(f"header: {type(error).__name__}") from None
    if (
        type(sizes) is not list
        or len(sizes) > MAX_BLOB_COUNT
        or any(type(size) is not int or size < 0 for size in sizes)
        or sum(sizes) > MAX_BLOBS
    ):
        raise MalformedError("blob sizes")
    blobs = [take(size) for size in sizes]
    try:
        return Unpacker(blobs, handles=handles).unpack(value, 0)
    except MalformedError:
        raise
    except Exception as error:  # a wrong type anywhere in a hostile header
        raise MalformedError(f"value: {type(error).__name__}") from None


def receive_exactly(sock: socket.socket, size: int, deadline: Deadline | None) -> bytearray:
    received = bytearray(size)
    view, filled = memoryview(received), 0
    while filled < size:
        count = _once(sock, partial(sock.recv_into, view[filled:]), deadline)
        if not count:
            raise EOFError("channel closed")
        filled += count
    return received


def _once(sock: socket.socket, act: Callable[[], int], deadline: Deadline | None) -> int:
    """What `act` returns once the socket lets it, by the deadline if there is one."""
    if deadline:
        return deadline.wait(sock, act)
    sock.settimeout(None)
    return act()


class Unpacker:
    """Turns JSON and blobs from a stranger into a value."""

    def __init__(self, blobs: list[bytearray], *, handles: bool) -> None:
        self.blobs = blobs
        self.nodes = 0
        self.tags: dict[str, Callable[[Json, int], object]] = {
            "#f": lambda text, _: float.fromhex(text),
            "#u": lambda parts, depth: tuple(self.unpack_list(parts, depth)),
            "#d": self.unpack_dict,
            "#t": lambda parts, _: self.unpack_tensor(*parts),
            "#a": lambda parts, _: self.unpack_array(*parts),
            "#b": lambda index, _: bytes(self.blob(index)),
        }
        if handles:
            self.tags["#h"] = lambda number, _: Handle(number)

    def unpack(self, item: Json, depth: int) -> object:
        self.nodes += 1
        if depth > MAX_DEPTH or self.nodes > MAX_NODES:
            raise MalformedError("too deep or too many parts")
        if type(item) is str:
            item.encode()  # a lone surrogate would break whoever prints it
            return item
        if item is None or type(item) in (bool, int):
            return item
        if type(item) is list:
            return self.unpack_list(item, depth)
        if type(item) is dict and len(item) == 1:
            ((tag, content),) = item.items()
            if tag in self.tags:
                return self.tags[tag](content, depth)
        raise MalformedError("type")

    def unpack_list(self, parts: list[Json], depth: int) -> list[object]:
        if type(parts) is not list:
            raise MalformedError("list")
        return [self.unpack(part, depth + 1) for part in parts]

    def unpack_dict(self, pairs: list[tuple[Json, Json]], depth: int) -> dict[object, object]:
        result: dict[object, object] = {}
        for raw_key, raw_value in pairs:
            key = self.unpack(raw_key, depth + 1)
            if not is_key(key) or key in result:
                raise MalformedError("key")
            result[key] = self.unpack(raw_value, depth + 1)
        return result

    def unpack_tensor(self, name: str, shape: list[int], index: int) -> torch.Tensor:
        dtype = TORCH_DTYPES[name]
        raw = self.sized_blob(index, shape, dtype.itemsize)
        if not raw:
            return torch.empty(shape, dtype=dtype)
        return torch.frombuffer(raw, dtype=dtype).reshape(shape)

    def unpack_array(self, name: str, shape: list[int], index: int) -> np.ndarray[Any, Any]:
        dtype = NUMPY_DTYPES[name]
        return np.frombuffer(self.sized_blob(index, shape, dtype.itemsize), dtype).reshape(shape)

    def sized_blob(self, index: int, shape: list[int], itemsize: int) -> bytearray:
        if type(shape) is not list or len(shape) > MAX_DIMENSIONS:
            raise MalformedError("shape")
        if any(type(size) is not int or not 0 <= size <= MAX_BLOBS for size in shape):
            raise MalformedError("shape")
        blob = self.blob(index)
        if math.prod(shape) * itemsize != len(blob):
            raise MalformedError("size")
        return blob

    def blob(self, index: int) -> bytearray:
        if type(index) is not int or not 0 <= index < len(self.blobs):
            raise MalformedError("blob")
        return self.blobs[index]


def is_key(key: object) -> bool:
    if type(key) is tuple:
        return all(is_key(part) for part in key)
    return key is None or type(key) in (str, int, bool, float, bytes)
