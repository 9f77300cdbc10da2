"""Curves as SVG: the band of the reference, the broken program, a team's own."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT, LEFT, BOTTOM = 640, 240, 56, 24
Run = Sequence[float | None]


@dataclass(frozen=True)
class Frame:
    """From values to places; logarithmic where everything is above nought."""

    last: float
    low: float
    high: float
    log: bool

    def x(self, step: float) -> float:
        return LEFT + (WIDTH - LEFT - 8) * step / (self.last or 1)

    def y(self, value: float) -> float:
        low, high, at = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        share = (at - low) / ((high - low) or 1)
        return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - 10) * share


def picture(
    steps: Sequence[int], reference: Sequence[Run], broken: Run | None, yours: Sequence[Run]
) -> dict[str, object]:
    """Paths for the template; nothing where there is no curve."""
    runs = [*reference, *([broken] if broken else []), *yours]
    values = [v for run in runs for v in run if v is not None and math.isfinite(v)]
    if not steps or not values:
        return {}
    frame = Frame(steps[-1], min(values), max(values), log=min(values) > 0)
    return {
        "width": WIDTH,
        "height": HEIGHT,
        "left": LEFT,
        "base": HEIGHT - BOTTOM,
        "band": _band(frame, steps, reference),
        "broken": _line(frame, steps, broken) if broken else "",
        "yours": [_line(frame, steps, run) for run in yours],
        "low": f"{frame.low:.3g}",
        "high": f"{frame.high:.3g}",
        "last": steps[-1],
    }


def _line(frame: Frame, steps: Sequence[int], run: Run) -> str:
    known = [(s, v) for s, v in zip(steps, run, strict=False) if v is not None and math.isfinite(v)]
    return " ".join(f"{frame.x(s):.1f},{frame.y(v):.1f}" for s, v in known)


def _band(frame: Frame, steps: Sequence[int], runs: Sequence[Run]) -> str:
    columns = [
        [v for v in column if v is not None and math.isfinite(v)] for column in zip(*runs, strict=False)
    ]
    upper = [(s, max(c)) for s, c in zip(steps, columns, strict=False) if c]
    lower = [(s, min(c)) for s, c in zip(steps, columns, strict=False) if c]
    places = [*upper, *reversed(lower)]
    return " ".join(f"{frame.x(s):.1f},{frame.y(v):.1f}" for s, v in places)
