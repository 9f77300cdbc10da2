"""The server's clock: the only one that counts."""

import time
from datetime import UTC, datetime


def now() -> int:
    """Milliseconds since 1970, UTC."""
    return time.time_ns() // 1_000_000


def shown(at: int) -> str:
    """2026-01-31T12:00:00Z"""
    return datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse(text: str) -> int:
    """An ISO 8601 moment; without a zone it is UTC. ValueError for anything else."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp() * 1000)
