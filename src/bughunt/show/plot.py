"""Curves in the terminal: the reference band, the broken program and yours, told apart by glyph."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

BAND, BROKEN, YOURS = "░", "×", "●"
BLOCKS = "▁▂▃▄▅▆▇█"
LABEL = 7
HUGE = 1e100  # as good as infinite, and its differences still are numbers
FULL, NARROW = 70, 40  # columns: a plot, a sparkline, numbers only


@dataclass(frozen=True)
class Line:
    """One measured curve; it may end early and may hold what is not finite."""

    steps: Sequence[int]
    values: Sequence[float]

    def sampled(self, columns: int, last: int) -> list[float | None]:
        """A value for each column, straight between probes; None after the line's end."""
        return [self.at(c * last / max(1, columns - 1)) for c in range(columns)]

    def at(self, step: float) -> float | None:
        if not self.values or step > self.steps[-1] or step < self.steps[0]:
            return None
        right = next(i for i, s in enumerate(self.steps) if s >= step)
        if right == 0 or self.steps[right] == step:
            return self.values[right]
        left = right - 1
        part = (step - self.steps[left]) / (self.steps[right] - self.steps[left])
        return self.values[left] + part * (self.values[right] - self.values[left])

    def logarithmic(self) -> "Line":
        return Line(self.steps, [math.log10(v) if 0 < v < math.inf else v for v in self.values])

    @property
    def final(self) -> float:
        return self.values[-1] if self.values else math.nan


@dataclass(frozen=True)
class Picture:
    """What is drawn: the band of the reference seeds, the broken program, an attempt."""

    band: Sequence[Line]
    broken: Line | None = None
    yours: Line | None = None

    @property
    def last(self) -> int:
        return max((line.steps[-1] for line in self.lines if line.steps), default=0)

    @property
    def lines(self) -> list[Line]:
        return [*self.band, *(line for line in (self.broken, self.yours) if line)]

    @property
    def steep(self) -> bool:
        """Whether the values span more than a decade above zero: then equal ratios look equal."""
        every = _finite(v for line in self.lines for v in line.values)
        return bool(every) and min(every) > 0 and max(every) > 10 * min(every)

    def logarithmic(self) -> "Picture":
        broken = self.broken and self.broken.logarithmic()
        yours = self.yours and self.yours.logarithmic()
        return Picture([line.logarithmic() for line in self.band], broken, yours)

    def limits(self) -> tuple[float, float] | None:
        """The range to draw: all that is finite, but nothing far above the reference."""
        band = _finite(v for line in self.band for v in line.values)
        every = _finite(v for line in self.lines for v in line.values)
        if not every:
            return None
        low, high = min(every), max(every)
        if band:
            ceiling = max(band) + 2 * (max(band) - min(band))
            high = min(high, ceiling) if max(band) > min(band) else high
            floor = min(band) - 2 * (max(band) - min(band))
            low = max(low, floor) if max(band) > min(band) else low
        room = max(0.5, abs(low) / 10)
        return (low, high) if high - low > 1e-9 * room else (low - room, high + room)


def draw(picture: Picture, width: int, height: int = 10, indent: int = 2) -> str:
    """The widest form that fits: a plot, sparklines, or numbers."""
    if picture.limits() is None:
        return " " * indent + "no finite value to draw"
    if width >= FULL:
        return plot(picture, width - indent - LABEL - 3, height, indent)
    if width >= NARROW:
        return sparklines(picture, width - indent - 20, indent)
    return numbers(picture, indent)


def plot(picture: Picture, columns: int, height: int = 10, indent: int = 2) -> str:
    """Three layers on one grid; what leaves the range is drawn on its edge."""
    steep = picture.steep
    picture = picture.logarithmic() if steep else picture
    low, high = picture.limits() or (0.0, 1.0)
    grid = [[" "] * columns for _ in range(height)]

    def row(value: float) -> int:
        if not abs(value) < HUGE:
            return height - 1 if value < 0 else 0
        return min(height - 1, max(0, round((high - value) / (high - low) * (height - 1))))

    _fill_band(grid, picture, row)
    for line, glyph in ((picture.broken, BROKEN), (picture.yours, YOURS)):
        for column, value in enumerate(line.sampled(columns, picture.last) if line else ()):
            if value is not None:
                grid[row(value)][column] = glyph
    labels = [high - (high - low) * r / (height - 1) for r in range(height)]
    labels = [10**value for value in labels] if steep else labels
    rows = [_label(r, labels, indent) + "".join(cells) for r, cells in enumerate(grid)]
    rows.append(" " * (indent + LABEL + 1) + "└" + "─" * columns)
    end = f"step {picture.last}"
    rows.append(" " * (indent + LABEL + 2) + "0" + end.rjust(columns - 1))
    if any(not v <= high + 1e-9 for line in picture.lines for v in line.values):
        rows.append(" " * (indent + LABEL + 2) + f"values above {number(labels[0])} are on the top line")
    return "\n".join(text.rstrip() for text in rows)


def sparklines(picture: Picture, columns: int, indent: int = 2) -> str:
    drawn = picture.logarithmic() if picture.steep else picture
    low, high = drawn.limits() or (0.0, 1.0)
    rows = []
    for (name, line), (_, shape) in zip(_named(picture), _named(drawn), strict=True):
        blocks = "".join(_block(v, low, high) for v in shape.sampled(columns, picture.last))
        rows.append(f"{' ' * indent}{name:9s} {blocks} {number(line.final)}")
    return "\n".join(rows)


def numbers(picture: Picture, indent: int = 2) -> str:
    return "\n".join(f"{' ' * indent}{name:9s} {number(line.final)}" for name, line in _named(picture))


def legend(picture: Picture) -> str:
    parts = []
    if picture.band:
        parts.append(f"{BAND} reference, {_count(len(picture.band), 'seed')}")
    if picture.broken:
        parts.append(f"{BROKEN} broken")
    if picture.yours:
        parts.append(f"{YOURS} yours")
    return "   ".join(parts)


def number(value: float | None) -> str:
    """Three significant digits, as short as they can be said."""
    if value is None or math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    if value and not 1e-3 <= abs(value) < 1e5:
        return f"{value:.2e}"
    return f"{value:.2f}" if abs(value) >= 0.1 or value == 0 else f"{value:.4f}"


def span(values: Sequence[float]) -> str:
    finite = _finite(values)
    if not finite:
        return "NaN"
    low, high = number(min(finite)), number(max(finite))
    return low if low == high else f"{low}–{high}"


def _fill_band(grid: list[list[str]], picture: Picture, row: Callable[[float], int]) -> None:
    columns = len(grid[0])
    sampled = [line.sampled(columns, picture.last) for line in picture.band]
    for column in range(columns):
        values = _finite(s[column] for s in sampled)
        if values:
            for r in range(row(max(values)), row(min(values)) + 1):
                grid[r][column] = BAND


def _label(row: int, labels: Sequence[float], indent: int) -> str:
    last = len(labels) - 1
    shown = (row % 3 == 0 and row < last - 1) or row == last
    return f"{' ' * indent}{number(labels[row]) if shown else '':>{LABEL}s} ┤"


def _named(picture: Picture) -> list[tuple[str, Line]]:
    named = [("reference", picture.band[len(picture.band) // 2])] if picture.band else []
    for name, line in (("broken", picture.broken), ("yours", picture.yours)):
        if line:
            named.append((name, line))
    return named


def _block(value: float | None, low: float, high: float) -> str:
    if value is None:
        return " "
    if not abs(value) < HUGE:
        return BLOCKS[0 if value < 0 else -1]
    return BLOCKS[min(7, max(0, int((value - low) / (high - low) * 7.999)))]


def _finite(values: Iterable[float | None]) -> list[float]:
    return [v for v in values if v is not None and abs(v) < HUGE]


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")
