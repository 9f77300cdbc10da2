"""Figures for a monitoring system, in the text format of Prometheus."""

from collections.abc import Iterator, Mapping

from bughunt_leaderboard.live import Live
from bughunt_leaderboard.queue import Queue

TEXT = "text/plain; version=0.0.4"


def text(queue: Queue, live: Live, counts: Mapping[tuple[str, int], tuple[int, float]], refused: int) -> str:
    """All figures; `counts` has number and seconds for each method and status."""
    return "\n".join([*_judging(queue), *_showing(live), *_requests(counts, refused)]) + "\n"


def _judging(queue: Queue) -> Iterator[str]:
    waiting = queue.figures()
    yield from _head("bughunt_queue_jobs", "gauge", "Judgements by state.")
    for state in ("waiting", "leased", "done", "failed"):
        yield f'bughunt_queue_jobs{{state="{state}"}} {waiting.states.get(state, 0)}'
    yield from _head("bughunt_queue_oldest_seconds", "gauge", "How long the oldest that waits has waited.")
    yield f"bughunt_queue_oldest_seconds {waiting.oldest:.1f}"


def _showing(live: Live) -> Iterator[str]:
    yield from _head("bughunt_events_total", "counter", "Events of the log.")
    yield f"bughunt_events_total {live.state.seq}"
    yield from _head("bughunt_watchers", "gauge", "Open streams of changes.")
    yield f"bughunt_watchers {live.watchers}"
    yield from _head("bughunt_drawing_seconds", "gauge", "What it took to draw what is shown now.")
    yield f"bughunt_drawing_seconds {live.version.seconds:.4f}"


def _requests(counts: Mapping[tuple[str, int], tuple[int, float]], refused: int) -> Iterator[str]:
    yield from _head("bughunt_requests_total", "counter", "Requests that were answered.")
    for (method, status), (number, _) in sorted(counts.items()):
        yield f'bughunt_requests_total{{method="{method}",status="{status}"}} {number}'
    yield from _head("bughunt_request_seconds_total", "counter", "Time that they took; streams last long.")
    for (method, status), (_, seconds) in sorted(counts.items()):
        yield f'bughunt_request_seconds_total{{method="{method}",status="{status}"}} {seconds:.3f}'
    yield from _head("bughunt_refused_by_limit_total", "counter", "Requests beyond a limit.")
    yield f"bughunt_refused_by_limit_total {refused}"


def _head(name: str, kind: str, told: str) -> Iterator[str]:
    yield f"# HELP {name} {told}"
    yield f"# TYPE {name} {kind}"
