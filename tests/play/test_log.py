"""The log keeps what it was given, whatever happened to its end."""

import json
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bughunt.play.log import Log

LINE = '{"time": "t", "event": "take", "challenge": "bh-1"}\n'


def names(log: Log) -> list[str]:
    return [event["event"] for event in log.read()[0]]


def test_what_is_appended_is_read_back_in_order(tmp_path: Path) -> None:
    log = Log(tmp_path / "log.jsonl")
    log.append("take", "bh-1")
    log.append("note", "bh-1", text='an "äöü" \n line')
    events, backup = log.read()
    assert backup is None
    assert [event["event"] for event in events] == ["take", "note"]
    assert events[1]["text"] == 'an "äöü" \n line'


def test_an_absent_log_is_empty(tmp_path: Path) -> None:
    assert Log(tmp_path / "log.jsonl").read() == ([], None)


@pytest.mark.parametrize(
    "tail",
    [b'{"time": "t', b"\xff\xfe\n", b"[1]\n", b"{}\n", b"\0\0\0\n" + LINE.encode()],
    ids=["torn", "not text", "not an object", "no event", "damage before good lines"],
)
def test_an_unreadable_tail_is_set_aside_and_nothing_is_lost(tmp_path: Path, tail: bytes) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(LINE.encode() + tail)
    events, backup = Log(path).read()
    assert len(events) == 1
    assert backup is not None
    assert backup.read_bytes() == tail
    assert path.read_bytes() == LINE.encode()


def test_a_second_backup_does_not_overwrite_the_first(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    for tail in (b"one", b"two"):
        path.write_bytes(LINE.encode() + tail)
        Log(path).read()
    assert {p.read_bytes() for p in tmp_path.glob("*.bak*")} == {b"one", b"two"}


def test_many_writers_never_mix_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    code = (
        "import sys; from pathlib import Path; from bughunt.play.log import Log\n"
        "for i in range(40): Log(Path(sys.argv[1])).append('note', sys.argv[2], text='x' * 5000)"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, str(path), f"bh-{n}"]) for n in "abc"]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(records) == 120
    assert all(record["text"] == "x" * 5000 for record in records)


def test_a_line_that_does_not_fit_on_the_disk_leaves_no_half(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    log = Log(path)
    log.append("take", "bh-1")
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 20, hard))
    try:
        with pytest.raises(OSError, match="too large"):
            log.append("note", "bh-1", text="x" * 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, previous)
    assert path.read_bytes() == before
    assert names(log) == ["take"]
