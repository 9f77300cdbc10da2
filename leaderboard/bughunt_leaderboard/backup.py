"""Backup and restore: every row of every table as JSON lines, key, set and the teams' texts in one tar.

It has checksums. The same archive serves SQLite and PostgreSQL, and moves a competition from one to the
other. It is read from one snapshot of the database, so the competition goes on meanwhile.
"""

import base64
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sql
from sqlalchemy.engine import Connection

from bughunt.errors import IntegrityError, UsageError
from bughunt_leaderboard.folder import SETTINGS, Folder
from bughunt_leaderboard.migrate import migrate
from bughunt_leaderboard.schema import METADATA
from bughunt_leaderboard.store import Store

SUMS = "SHA256SUMS"
TEXTS = ("patterns", "variants")  # what the teams hold
BATCH = 500


def backup(folder: Folder, file: Path) -> int:
    """Write the archive, whole or not at all; returns its size in bytes."""
    parts = {"key": folder.key, **_files(Path(folder.set_folder), "set")}
    for name in TEXTS:
        parts |= _files(folder.path / name, name)
    store = Store(folder.database)
    with store.engine.connect() as connection, connection.begin():
        if store.sqlite:
            connection.exec_driver_sql("BEGIN")
        else:
            connection.execute(sql.text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
        for table in METADATA.sorted_tables:
            parts[f"tables/{table.name}.jsonl"] = b"".join(_lines(connection, table))
    store.close()
    sums = "".join(f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in parts.items())
    part = file.with_name(file.name + ".part")
    with tarfile.open(part, "w:gz") as archive:
        for name, content in {SUMS: sums.encode(), **parts}.items():
            about = tarfile.TarInfo(name)
            about.size, about.mode = len(content), 0o600
            archive.addfile(about, io.BytesIO(content))
    part.chmod(0o600)
    os.replace(part, file)
    return file.stat().st_size


def restore(file: Path, target: Path, database: str | None = None) -> Folder:
    """A new folder from an archive; IntegrityError where a checksum does not fit."""
    if (target / SETTINGS).exists():
        raise UsageError(f"{target} holds a competition already", "choose a new folder")
    parts = _read(file)
    set_folder = target / "set"
    for name, content in parts.items():
        if name.startswith(("set/", *(f"{text}/" for text in TEXTS))):
            path = target / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    folder = Folder.make(target, set_folder, database)
    (target / "key").write_bytes(parts["key"])
    store = Store(folder.database)
    migrate(store)
    with store.writing() as connection:
        for table in METADATA.sorted_tables:
            rows = [_decoded(line) for line in parts[f"tables/{table.name}.jsonl"].splitlines()]
            for start in range(0, len(rows), BATCH):
                connection.execute(table.insert(), rows[start : start + BATCH])
            if not store.sqlite and "id" in table.c:
                _go_on_counting(connection, table.name)
    store.close()
    return folder


def _read(file: Path) -> dict[str, bytes]:
    parts = {}
    try:
        with tarfile.open(file, "r:gz") as archive:
            for about in archive:
                if ".." in Path(about.name).parts or Path(about.name).is_absolute() or not about.isfile():
                    raise IntegrityError(
                        f"{file} has a part called {about.name}", "it is no backup of bughunt's"
                    )
                taken = archive.extractfile(about)
                parts[about.name] = taken.read() if taken else b""
        sums = parts.pop(SUMS).decode().splitlines()
    except (tarfile.TarError, EOFError, OSError, KeyError, UnicodeDecodeError) as error:
        raise IntegrityError(f"{file} cannot be read: {error}", "use another backup") from None
    for line in sums:
        digest, name = line.split("  ", 1)
        if hashlib.sha256(parts.get(name, b"")).hexdigest() != digest:
            raise IntegrityError(f"{name} in {file} is damaged", "use another backup")
    return parts


def _files(folder: Path, name: str) -> dict[str, bytes]:
    return {
        f"{name}/{path.relative_to(folder)}": path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _lines(connection: Connection, table: sql.Table) -> Iterator[bytes]:
    order = list(table.primary_key.columns)
    for row in connection.execute(sql.select(table).order_by(*order)):
        yield json.dumps({k: _encoded(v) for k, v in row._mapping.items()}).encode() + b"\n"


def _encoded(value: Any) -> Any:
    return {"bytes": base64.b64encode(value).decode()} if isinstance(value, bytes | memoryview) else value


def _decoded(line: bytes) -> dict[str, Any]:
    row = json.loads(line)
    return {k: base64.b64decode(v["bytes"]) if isinstance(v, dict) else v for k, v in row.items()}


def _go_on_counting(connection: Connection, table: str) -> None:
    """PostgreSQL's counters do not follow rows that bring their own numbers."""
    counter = f"pg_get_serial_sequence('{table}', 'id')"
    connection.execute(sql.text(f"SELECT setval({counter}, coalesce(max(id), 0) + 1, false) FROM {table}"))
