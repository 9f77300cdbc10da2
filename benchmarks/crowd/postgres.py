"""A PostgreSQL server of one's own, from the system's programs, that may be killed and started again."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Self

import psycopg

from crowd.server import free_port

NOBODY = 65534


class Postgres:
    """A server with a database `cup`, as a user that is not root; nothing of it is left behind."""

    def __enter__(self) -> Self:
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
        if not found:
            raise SystemExit("PostgreSQL is not installed: apt-get install postgresql")
        root = os.geteuid() == 0
        self.bin, self.port, self.folder = found[-1], free_port(), Path(tempfile.mkdtemp(dir="/tmp"))
        self.user = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"] if root else []
        if root:
            os.chown(self.folder, NOBODY, NOBODY)
        words = ["initdb", "-D", f"{self.folder}/data", "-U", "bughunt", "-A", "trust"]
        self._run(words).check_returncode()
        self.start()
        with psycopg.connect(self.address("postgres"), autocommit=True) as connection:
            connection.execute("CREATE DATABASE cup")
        return self

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(30)
        shutil.rmtree(self.folder, ignore_errors=True)

    def address(self, database: str = "cup") -> str:
        return f"postgresql://bughunt@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start it, as often as it takes until what a killed one left has gone."""
        until = time.monotonic() + 60
        while time.monotonic() < until:
            with open(self.folder / "log", "ab") as log:
                self.process = subprocess.Popen(
                    [*self.user, str(self.bin / "postgres"), "-D", f"{self.folder}/data",
                     "-p", str(self.port), "-k", str(self.folder), "-c", "listen_addresses=127.0.0.1"],
                    cwd=self.folder, stdout=log, stderr=log,
                )  # fmt: skip
            while self.process.poll() is None and time.monotonic() < until:
                if not self._run(["pg_isready", "-h", "127.0.0.1", "-p", str(self.port), "-q"]).returncode:
                    return
                time.sleep(0.1)
            time.sleep(0.2)
        raise SystemExit(f"PostgreSQL does not start, see {self.folder}/log")

    def _run(self, words: list[str]) -> "subprocess.CompletedProcess[bytes]":
        return subprocess.run(
            [*self.user, str(self.bin / words[0]), *words[1:]],
            cwd=self.folder,
            capture_output=True,
            check=False,
        )
