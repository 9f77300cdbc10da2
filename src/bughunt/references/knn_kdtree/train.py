"""Nearest neighbours in a k-d tree.

The tree halves the points at the median of their widest axis until few are left. A search keeps the nearest
points so far in a heap with the farthest on top, and leaves out a half that cannot hold a nearer one.

Equal distances are settled by the smaller index. Shapes: N points, D features, Q queries, K neighbours.
"""

import heapq
from collections import Counter

import numpy as np
from numpy import ndarray

LEAF = 8  # points that are looked at one by one


def build_tree(points: ndarray, leaf: int = LEAF) -> dict:  # [N, D]
    """Nested dicts: a leaf has `rows`; a branch has `axis`, `cut`, `low` and `high`."""
    return branch(points, np.arange(len(points)), leaf)


def branch(points: ndarray, rows: ndarray, leaf: int) -> dict:
    if len(rows) <= leaf:
        return {"rows": rows}
    axis = int(np.ptp(points[rows], axis=0).argmax())
    order = rows[np.argsort(points[rows, axis], kind="stable")]
    middle = len(order) // 2
    cut = points[order[middle - 1], axis]
    return {
        "axis": axis,
        "cut": float(cut),
        "low": branch(points, order[:middle], leaf),
        "high": branch(points, order[middle:], leaf),
    }


def depth(tree: dict) -> int:
    """Branches on the longest way down."""
    if "rows" in tree:
        return 0
    return 1 + max(depth(tree["low"]), depth(tree["high"]))


class Nearest:
    """The `count` nearest points offered so far; the top of the heap is the one to be given up next."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.heap: list[tuple[float, int]] = []  # both negative, for heapq keeps the smallest on top

    def offer(self, distance: float, row: int) -> None:
        entry = (-distance, -row)
        if len(self.heap) < self.count:
            heapq.heappush(self.heap, entry)
        elif entry > self.heap[0]:
            heapq.heapreplace(self.heap, entry)

    def reach(self) -> float:
        """The squared distance beyond which nothing is of use any more."""
        if len(self.heap) < self.count:
            return float("inf")
        return -self.heap[0][0]

    def sorted(self) -> list[tuple[float, int]]:
        """Squared distances and rows, nearest first."""
        return sorted((-distance, -row) for distance, row in self.heap)


def search(tree: dict, points: ndarray, query: ndarray, nearest: Nearest) -> int:
    """Offer every point that may be among the nearest; says how many distances were worked out."""
    if "rows" in tree:
        for row in tree["rows"]:
            gap = points[row] - query
            nearest.offer(float(gap @ gap), int(row))
        return len(tree["rows"])
    beyond = query[tree["axis"]] - tree["cut"]
    near, far = ("low", "high") if beyond <= 0 else ("high", "low")
    visited = search(tree[near], points, query, nearest)
    if beyond**2 <= nearest.reach():
        visited += search(tree[far], points, query, nearest)
    return visited


def query(tree: dict, points: ndarray, queries: ndarray, count: int) -> tuple[list, list, int]:
    """For each query the rows of its nearest points and their distances, and the distances worked out in all.

    Where there are fewer points than asked for, all of them are given.
    """
    rows, distances, visited = [], [], 0
    for one in queries:
        nearest = Nearest(count)
        visited += search(tree, points, one, nearest)
        found = nearest.sorted()
        rows.append([row for _, row in found])
        distances.append([distance**0.5 for distance, _ in found])
    return rows, distances, visited


def within(tree: dict, points: ndarray, centre: ndarray, radius: float) -> list[int]:
    """All rows at most `radius` away, in rising order."""
    if "rows" in tree:
        gaps = ((points[tree["rows"]] - centre) ** 2).sum(axis=1)
        return sorted(int(row) for row in tree["rows"][gaps <= radius**2])
    beyond = centre[tree["axis"]] - tree["cut"]
    found = []
    if beyond <= radius:
        found += within(tree["low"], points, centre, radius)
    if beyond >= -radius:
        found += within(tree["high"], points, centre, radius)
    return sorted(found)


def standardise(points: ndarray, others: ndarray) -> tuple[ndarray, ndarray]:
    """Both sets in units of the first; a feature that never changes is left at zero."""
    mean = points.mean(axis=0)
    scale = points.std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    return (points - mean) / scale, (others - mean) / scale


def vote(labels: list[int], distances: list[float], weighted: bool) -> int:
    """The label with most votes; a tie goes to the label whose nearest point is nearest.

    A weighted vote counts by one over the distance; points at no distance decide alone.
    """
    if weighted and distances[0] == 0:
        labels = [label for label, distance in zip(labels, distances, strict=True) if distance == 0]
        weighted = False
    votes: Counter = Counter()
    for label, distance in zip(labels, distances, strict=False):
        votes[label] += 1 / distance if weighted else 1
    most = max(votes.values())
    return next(label for label in labels if votes[label] >= most)


def classify(
    points: ndarray, labels: ndarray, queries: ndarray, count: int = 5, weighted: bool = False
) -> ndarray:  # [N, D], [N], [Q, D] -> [Q]
    """The label that most of the nearest neighbours have, every feature at unit scale."""
    known, asked = standardise(points, queries)
    rows, distances, _ = query(build_tree(known), known, asked, count)
    pairs = zip(rows, distances, strict=True)
    return np.array([vote([int(labels[row]) for row in near], gaps, weighted) for near, gaps in pairs])


def leave_one_out(points: ndarray, labels: ndarray, count: int = 5) -> float:
    """Accuracy where each point is classified by its neighbours without itself."""
    known, _ = standardise(points, points)
    rows, distances, _ = query(build_tree(known), known, known, count + 1)
    right = 0
    for row, (near, gaps) in enumerate(zip(rows, distances, strict=True)):
        others = [(gap, other) for gap, other in zip(gaps, near, strict=True) if other != row][:count]
        answer = vote([int(labels[other]) for _, other in others], [gap for gap, _ in others], False)
        right += answer == int(labels[row])
    return right / len(points)
