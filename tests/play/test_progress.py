"""Progress is what the log says, and nothing else."""

from bughunt.play.progress import derive


def event(name, challenge="bh-1", **fields):
    return {"time": "t", "event": name, "challenge": challenge, **fields}


def attempt(name, number, verdict="UNFIXED", **fields):
    return event(name, attempt=number, verdict=verdict, **fields)


def test_nothing_is_known_of_a_challenge_that_was_never_opened():
    state = derive([])
    assert state.current is None
    assert state.of("bh-1").state == "new"


def test_the_challenge_opened_last_is_the_current_one():
    assert derive([event("take"), event("take", "bh-2"), event("goto")]).current == "bh-1"


def test_a_check_that_passes_does_not_solve():
    assert derive([event("take"), attempt("check", 1, "SOLVED")]).of("bh-1").state == "started"


def test_a_submission_that_passes_solves_for_good():
    events = [
        event("take"),
        attempt("submit", 1, "SOLVED", score=100.0, points=180),
        event("goto"),
        attempt("submit", 2, "UNFIXED", score=5.0),
    ]
    progress = derive(events).of("bh-1")
    assert (progress.state, progress.points, progress.replay) == ("solved", 180, True)


def test_what_was_given_up_is_never_counted_as_solved():
    events = [event("take"), event("giveup"), attempt("submit", 1, "SOLVED", points=180)]
    progress = derive(events).of("bh-1")
    assert (progress.state, progress.points) == ("given up", 0)


def test_opening_a_hint_uses_up_the_evidence():
    events = [event("take"), event("note", text="x"), event("hint", price=5)]
    assert derive(events).of("bh-1").evidence == 0
    assert derive([*events, attempt("check", 1)]).of("bh-1").evidence == 1


def test_the_best_attempt_has_the_highest_score_and_of_equals_the_later():
    scores = [10.0, 40.0, 40.0, 20.0]
    events = [attempt("check", n, score=s) for n, s in enumerate(scores, 1)]
    assert derive(events).of("bh-1").best_attempt["attempt"] == 3


def test_the_best_recovery_ignores_attempts_without_one():
    events = [attempt("check", 1, recovery=None), attempt("check", 2, recovery=0.4)]
    assert derive(events).of("bh-1").best_recovery == 0.4
