"""DBSCAN on a grid: groups are what can be reached through dense places.

A point is a core point when at least `minimum` points, itself included, are within `radius` of it. Core
points within reach of one another are of one group. Any other point within reach of a core point is on the
border of that group; the rest is noise. Points lie in cells of a grid, so that only cells nearby have to be
searched.

Shapes: N points, D features.
"""

import itertools
import math
from collections import defaultdict

import numpy as np
from numpy import ndarray

NOISE = -1
Cell = tuple[int, ...]


def cell_of(point: ndarray, size: float) -> Cell:
    return tuple(math.floor(value / size) for value in point)


class Grid:
    """Rows of points by the cell that they lie in; cells are as wide as the radius."""

    def __init__(self, points: ndarray, radius: float) -> None:
        self.points = points
        self.radius = radius
        self.cells: dict[Cell, list[int]] = defaultdict(list)
        self.evaluations = 0  # distances worked out so far
        for row, point in enumerate(points):
            self.cells[cell_of(point, radius)].append(row)

    def near(self, cell: Cell) -> list[int]:
        """Rows in a cell and in those that touch it."""
        rows = []
        for offset in itertools.product((-1, 0, 1), repeat=len(cell)):
            beside = tuple(place + step for place, step in zip(cell, offset, strict=True))
            rows += self.cells.get(beside, [])
        return rows

    def neighbours(self, row: int) -> list[int]:
        """Rows at most the radius away, the row itself among them, in rising order."""
        candidates = self.near(cell_of(self.points[row], self.radius))
        self.evaluations += len(candidates)
        gaps = ((self.points[candidates] - self.points[row]) ** 2).sum(axis=1)
        return sorted(other for other, gap in zip(candidates, gaps, strict=True) if gap <= self.radius**2)


class Groups:
    """Disjoint sets of rows, each known by its root."""

    def __init__(self, count: int) -> None:
        self.parent = list(range(count))
        self.size = [1] * count

    def find(self, row: int) -> int:
        root = row
        while self.parent[root] != root:
            root = self.parent[root]
        while self.parent[row] != root:  # everything on the way now hangs from the root
            self.parent[row], row = root, self.parent[row]
        return root

    def join(self, one: int, other: int) -> None:
        """The smaller tree goes below the root of the larger."""
        small, large = sorted((self.find(one), self.find(other)), key=lambda root: self.size[root])
        if small != large:
            self.parent[small] = large
            self.size[large] += self.size[small]


def neighbourhoods(points: ndarray, radius: float) -> tuple[list[list[int]], int]:
    """For each point the rows within the radius, and how many distances it took."""
    grid = Grid(points, radius)
    found = [grid.neighbours(row) for row in range(len(points))]
    return found, grid.evaluations


def core_points(near: list[list[int]], minimum: int) -> list[bool]:
    return [len(rows) >= minimum for rows in near]


def components(count: int, edges: list[tuple[int, int]]) -> list[int]:
    """For each of `count` rows the smallest row that it is connected with."""
    groups = Groups(count)
    for one, other in edges:
        groups.join(one, other)
    first: dict[int, int] = {}
    for row in range(count):
        first.setdefault(groups.find(row), row)
    return [first[groups.find(row)] for row in range(count)]


def dbscan(points: ndarray, radius: float, minimum: int) -> ndarray:  # [N, D] -> [N]
    """Labels from 0 on, by the first core point of each group; -1 is noise.

    A border point takes the group of its nearest core point, and of equally near ones the smaller row.
    """
    near, _ = neighbourhoods(points, radius)
    core = core_points(near, minimum)
    edges = [(row, other) for row, rows in enumerate(near) if core[row] for other in rows if core[other]]
    roots = components(len(points), edges)
    numbers: dict[int, int] = {}
    labels = np.full(len(points), NOISE)
    for row in range(len(points)):
        if core[row]:
            labels[row] = numbers.setdefault(roots[row], len(numbers))
    for row, rows in enumerate(near):
        reached = [other for other in rows if core[other]]
        if not core[row] and reached:
            gaps = ((points[reached] - points[row]) ** 2).sum(axis=1)
            labels[row] = labels[reached[int(gaps.argmin())]]
    return labels


def knee(points: ndarray, minimum: int) -> float:
    """A radius to begin with: where the sorted distances to the farthest needed neighbour bend most.

    The curve is brought into the unit square, and the place farthest below its chord is taken.
    """
    gaps = np.sqrt(((points[:, None] - points[None]) ** 2).sum(axis=2))
    needed = np.sort(np.sort(gaps, axis=1)[:, minimum - 1])
    height = (needed - needed[0]) / (needed[-1] - needed[0])
    along = np.linspace(0, 1, len(needed))
    return float(needed[int((along - height).argmax())])


def adjusted_rand(one: ndarray, other: ndarray) -> float:
    """Pairs on which two partitions agree: 0 is chance, 1 the same partition."""
    table = np.zeros((one.max() + 2, other.max() + 2))
    np.add.at(table, (one, other), 1)  # noise is a group of its own: -1 is the last row and column
    cells, rows, columns = ((part * (part - 1) / 2).sum() for part in (table, table.sum(1), table.sum(0)))
    expected = rows * columns / (len(one) * (len(one) - 1) / 2)
    best = (rows + columns) / 2
    return 1.0 if best == expected else float((cells - expected) / (best - expected))
