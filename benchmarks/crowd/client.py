"""A client that costs little: one request over and over on open connections, as fast as the answers come."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def request(method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
    """The bytes of a request; an underscore in a header's name is a hyphen."""
    lines = [f"{method} {path} HTTP/1.1", "host: 127.0.0.1", f"content-length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    """Status and headers of the next answer."""
    status, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines if line)
    return int(status.split()[1]), headers


async def ask(streams: Streams, what: bytes) -> Answer:
    """One answer that says how long it is."""
    reader, writer = streams
    writer.write(what)
    status, headers = await head(reader)
    return Answer(status, headers, await reader.readexactly(int(headers.get("content-length", "0"))))


async def once(port: int, what: bytes) -> Answer:
    streams = await asyncio.open_connection("127.0.0.1", port, limit=1 << 22)
    try:
        return await ask(streams, what)
    finally:
        streams[1].close()


async def rate(port: int, what: bytes, connections: int, seconds: float) -> float:
    """Answers a second; SystemExit where one is not 200."""
    until, answers = time.perf_counter() + seconds, 0

    async def one() -> None:
        nonlocal answers
        streams = await asyncio.open_connection("127.0.0.1", port, limit=1 << 22)
        while time.perf_counter() < until:
            if (answer := await ask(streams, what)).status != 200:
                raise SystemExit(f"{answer.status}: {answer.body[:200]!r}")
            answers += 1
        streams[1].close()

    begun = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(connections)))
    return answers / (time.perf_counter() - begun)
