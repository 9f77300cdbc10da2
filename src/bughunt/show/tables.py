"""Tables and bars as plain text; light, so that commands which only list start quickly."""

from collections.abc import Sequence


def table(rows: Sequence[Sequence[str]], indent: int = 2) -> str:
    """Columns as wide as their widest cell; the last one runs free."""
    if not rows:
        return ""
    widths = [max(len(row[c]) for row in rows) for c in range(len(rows[0]) - 1)]
    return "\n".join(
        (" " * indent + "  ".join(f"{cell:<{w}s}" for cell, w in zip(row, [*widths, 0], strict=True)))
        .rstrip()
        for row in rows
    )  # fmt: skip


def bar(done: int, total: int, width: int = 20) -> str:
    filled = round(width * done / total) if total else 0
    return "[" + "#" * filled + "-" * (width - filled) + f"] {done}/{total}"
