"""What a run that can be interrupted does, however it is written."""

import math
from functools import cache

import pytest
import torch

from bughunt.errors import BughuntError
from bughunt.references.data import glyphs as drawn

glyphs = cache(drawn.glyphs)  # nobody here changes them
ROWS = 83
SMALL = {"steps": 12, "batch": 20, "hidden": 12, "evaluate_every": 2, "save_every": 4, "patience": 0}


def _run(program, seed, data=None, take=10_000, **config):
    config = {**SMALL, **config}
    model = program.build(seed=seed, **config)
    run = program.train(model, data or glyphs(ROWS, 5), seed, **config)
    return model, run, run.next(take)


def _same(left, right):
    assert left.keys() == right.keys()
    return all(torch.equal(left[name], right[name]) for name in left)


def _store(program, folder, keep=2):
    store = program.call("store.Store", folder, keep, keep=True)
    return lambda name, *args: program.call_method(store, name, *args)


def _state(step):
    return {"step": step, "model": {"w": torch.full((3,), float(step))}}


@pytest.mark.parametrize("stop", [4, 5, 7, 8, 11, 12])
def test_a_run_taken_up_again_ends_as_if_nothing_had_happened(program, seed, stop):
    whole, _, losses = _run(program, seed, folder="straight")
    folder = f"broken-off-{stop}"
    _, _, before = _run(program, seed, take=stop, folder=folder)
    program.seed(seed + 99)
    again, _, after = _run(program, seed + 7, folder=folder, resume=True)
    saved = stop // 4 * 4
    assert before == losses[:stop]
    assert after == losses[saved:]
    assert len(losses) == 12
    assert _same(program.state(whole), program.state(again))


def test_it_may_be_interrupted_again_and_again(program, seed):
    settings = {"save_every": 1, "evaluate_every": 1, "cut": 0.5, "lr": 0.2, "batch": 17, "decay": 0.5}
    whole, _, losses = _run(program, seed, folder="straight", **settings)
    parts = _run(program, seed, take=3, folder="pieces", **settings)[2]
    while len(parts) < 12:
        program.seed(len(parts))
        last, run, some = _run(program, 50 + len(parts), take=2, folder="pieces", resume=True, **settings)
        parts += some
    assert run.next() == []
    assert parts == losses
    assert _same(program.state(whole), program.state(last))


def test_a_run_without_a_checkpoint_starts_at_the_beginning(program, seed):
    _, _, fresh = _run(program, seed, folder="one")
    _, _, other = _run(program, seed, folder="two", resume=True)
    assert other == fresh


def test_a_new_run_forgets_an_old_one(program, seed):
    _run(program, seed, folder="shared", steps=12)
    _run(program, seed, folder="shared", steps=4)
    _, _, rest = _run(program, seed, folder="shared", steps=5, resume=True)
    assert len(rest) == 1


def test_a_finished_run_has_nothing_left_to_do(program, seed):
    whole, _, _ = _run(program, seed, folder="done")
    again, _, losses = _run(program, seed + 1, folder="done", resume=True)
    assert losses == []
    assert _same(program.state(whole), program.state(again))


def test_more_steps_may_be_asked_for(program, seed):
    _, _, losses = _run(program, seed, folder="long", steps=16)
    _run(program, seed, folder="short", steps=8)
    _, _, rest = _run(program, seed + 1, folder="short", steps=16, resume=True)
    assert rest == losses[8:]


@pytest.mark.parametrize("other", [{"lr": 0.01}, {"dropout": 0.3}, {"patience": 4}, {"decay": 0.5}])
def test_a_run_under_other_settings_is_refused(program, seed, other):
    _run(program, seed, take=5, folder="mine")
    with pytest.raises(BughuntError):
        _run(program, seed, folder="mine", resume=True, **other)


def test_the_fingerprint_tells_settings_apart(program):
    def of(**config):
        return program.call("fingerprint", program.call("Config", keep=True, **config))

    assert of() == of(folder="elsewhere", save_every=1, best=9, resume=True, steps=7)
    assert len({of(), of(lr=0.1), of(batch=1), of(hidden=3), of(validation=0.5), of(cut=0.1)}) == 6


def test_the_latest_and_the_best_are_kept(program):
    call = _store(program, "shelf")
    scores = {3: 0.5, 4: 0.2, 6: 0.9, 7: 0.3, 9: 0.4}
    kept = {3: [3], 4: [3, 4], 6: [3, 4, 6], 7: [4, 7], 9: [4, 7, 9]}
    for step, score in scores.items():
        call("add", _state(step), score)
        entries = call("entries")
        assert [entry["step"] for entry in entries] == kept[step]
        assert [entry["score"] for entry in entries] == [scores[number] for number in kept[step]]
        assert call("latest")["step"] == step
    best = call("best")
    assert best["step"] == 4
    assert best["model"]["w"].tolist() == [4.0] * 3
    call("add", _state(9), 0.1)
    assert [entry["step"] for entry in call("entries")] == [4, 9]


def test_what_is_not_kept_leaves_no_file(program):
    call = _store(program, "tidy")
    for step in range(1, 7):
        call("add", _state(step), 1.0 + step % 3)
    entries = call("entries")
    assert [entry["step"] for entry in entries] == [3, 6]
    found = program.call("store.os.listdir", "tidy")
    assert len(found) == 1 + len(entries)
    call("clear")
    assert call("entries") == []
    assert call("latest") is call("best") is None
    assert program.call("store.os.listdir", "tidy") == []


def test_of_equal_scores_the_earlier_is_best(program):
    call = _store(program, "equal")
    for step in (2, 5, 8):
        call("add", _state(step), 0.25)
    assert call("best")["step"] == 2
    assert [entry["step"] for entry in call("entries")] == [2, 5, 8]


def test_a_failed_write_leaves_what_was_there(program):
    program.call("store.os.mkdir", "place")
    files = program.call("store.os.scandir", ".", keep=True)  # cannot be written
    program.call("store.save", "place/state.pt", _state(1))
    with pytest.raises(BughuntError):
        program.call("store.save", "place/state.pt", {**_state(2), "files": files})
    assert program.call("store.load", "place/state.pt")["step"] == 1
    assert len(program.call("store.os.listdir", "place")) == 1


def test_nothing_in_a_file_is_run(program):
    cfg = program.call("Config", keep=True)
    program.call("store.torch.save", {"step": 1, "model": cfg}, "odd.pt")
    with pytest.raises(BughuntError):
        program.call("store.load", "odd.pt", keep=True)


def test_what_is_missing_from_a_checkpoint_is_said(program, seed):
    _run(program, seed, take=5, folder="torn")
    store = program.call("store.Store", "torn", 3, keep=True)
    state = program.call_method(store, "latest")
    for name in state:
        if name in ("step", "settings"):
            continue
        program.call_method(store, "add", {key: value for key, value in state.items() if key != name}, 0.0)
        with pytest.raises(BughuntError, match=name):
            _run(program, seed, folder="torn", resume=True)
    program.call_method(store, "add", state, 0.0)
    assert len(_run(program, seed, folder="torn", resume=True)[2]) == 8


def test_a_snapshot_is_not_changed_by_later_updates(program, seed):
    _run(program, seed, take=5, folder="held")
    store = program.call("store.Store", "held", 3, keep=True)
    first = program.call_method(store, "latest")["model"]
    cfg = program.call("Config", keep=True, **SMALL)
    model = program.build(seed=seed, **SMALL)
    optimizer, plateau, sampler = _parts(program, model)
    kept = program.call("snapshot.capture", model, optimizer, plateau, sampler, 1, cfg, keep=True)
    before = program.state(model)
    program.load_state(model, {name: value for name, value in first.items() if value.dim()})
    found = program.call_method(kept, "get", "model")  # under the program's own names
    assert len(found) == len(before)
    assert all(any(torch.equal(one, other) for other in before.values()) for one in found.values())


def _parts(program, model):
    parameters = program.call("network.nn.Module.parameters", model, keep=True)
    optimizer = program.call("torch.optim.AdamW", parameters, keep=True)
    rng = program.call("torch.Generator", keep=True)
    return (
        optimizer,
        program.call("progress.Plateau", 0.1, 0.5, 2, keep=True),
        program.call("progress.Sampler", 23, 5, rng, keep=True),
    )


def test_the_rate_is_cut_when_nothing_gets_better(program):
    plateau = program.call("progress.Plateau", 0.8, 0.5, 1, keep=True)
    rates = []
    for loss in (3.0, 2.0, 2.5, 2.0, 1.0, 1.5, 1.2, 1.1, 0.5):
        program.call_method(plateau, "look", loss)
        rates.append(program.call_method(plateau, "state_dict")["lr"])
    assert rates == pytest.approx([0.8, 0.8, 0.8, 0.4, 0.4, 0.4, 0.2, 0.2, 0.2])


def test_progress_begins_the_wait_anew(program):
    plateau = program.call("progress.Plateau", 0.8, 0.5, 1, keep=True)
    for loss in (3.0, 3.5, 2.0, 2.5, 1.0, 1.5, 0.9):
        program.call_method(plateau, "look", loss)
        assert program.call_method(plateau, "state_dict")["lr"] == 0.8


def test_one_pass_shows_every_row_once(program, seed):
    rng = program.call("torch.Generator", keep=True)
    program.call_method(rng, "manual_seed", seed, keep=True)
    sampler = program.call("progress.Sampler", 23, 5, rng, keep=True)
    batches = [program.call_method(sampler, "__next__").tolist() for _ in range(15)]
    passes = [[row for batch in batches[start : start + 5] for row in batch] for start in (0, 5, 10)]
    assert [len(batch) for batch in batches[:6]] == [5, 5, 5, 5, 3, 5]
    assert all(sorted(rows) == list(range(23)) for rows in passes)
    assert passes[0] != passes[1] != passes[2]


def test_training_and_validation_rows_never_overlap(program):
    data = {"images": torch.arange(50.0).reshape(50, 1, 1), "labels": torch.arange(50)}
    learn, held = program.call("split", data, program.call("Config", keep=True, validation=0.2))
    assert len(held[1]) == 10
    assert torch.cat([learn[1], held[1]]).sort().values.tolist() == list(range(50))
    for images, labels in (learn, held):
        assert torch.equal(images.flatten(), labels.float())
    assert len({label // 10 for label in held[1].tolist()}) == 5  # of rows sorted by class some of each


@pytest.mark.parametrize(("share", "held_out"), [(0.15, 12), (0.3, 28), (0.9, 42)])
def test_the_share_held_out_is_the_nearest_that_leaves_half(program, share, held_out):
    data = {"images": torch.zeros(84, 1, 1), "labels": torch.arange(84)}
    learn, held = program.call("split", data, program.call("Config", keep=True, validation=share))
    assert (len(learn[1]), len(held[1])) == (84 - held_out, held_out)


def test_the_moving_average_moves_slowly(program, seed):
    model = program.build(seed=seed, **SMALL)
    slow = {name for name in program.state(model) if name.startswith("slow")}
    begun = program.state(model)
    assert all(torch.equal(begun[name], begun["fast" + name[4:]]) for name in slow)
    program.load_state(model, {n: v + 1 for n, v in begun.items() if n not in slow})
    for _ in range(2):
        program.call("network.Pair.follow", model, 0.8)
    after, parameters = program.state(model), program.parameters(model)
    for name in slow:
        gain = 0.36 if name in parameters else 1
        torch.testing.assert_close(after[name], begun[name] + gain, check_dtype=False)


def test_the_average_follows_in_a_run(program, seed):
    config = {**SMALL, "decay": 0.0, "save_every": 100}
    model, _, _ = _run(program, seed, **config)
    state = program.state(model)
    slow = [name for name in state if name.startswith("slow")]
    assert all(torch.equal(state[name], state["fast" + name[4:]]) for name in slow)
    kept, _, _ = _run(program, seed, **{**config, "decay": 0.9})
    state = program.state(kept)
    assert not torch.equal(state["slow.head.weight"], state["fast.head.weight"])


@pytest.mark.parametrize("every", [1, 3])
def test_the_best_weights_are_restored(program, seed, every):
    labels = torch.randint(10, (ROWS,), generator=torch.Generator().manual_seed(seed))
    rows = {**glyphs(ROWS, seed), "labels": labels}  # nothing to learn, so it gets worse
    config = {"steps": 24, "save_every": every, "best": 2, "decay": 0.0, "dropout": 0.0, "folder": "worse"}
    config = {**SMALL, **config, "evaluate_every": 1000, "lr": 0.1}
    model = program.build(seed=seed, **config)
    run = program.train(model, rows, seed, **config)
    states = []
    for _ in range(24):
        run.next()
        states.append(program.state(model))
    assert run.next() == []
    store = program.call("store.Store", "worse", 2, keep=True)
    entries = program.call_method(store, "entries")
    best = min(entries, key=lambda entry: entry["score"])
    assert best["step"] < 24
    assert _same(program.state(model), states[best["step"] - 1])


def test_checkpoints_are_scored_on_rows_held_out(program, seed):
    rows = glyphs(ROWS, seed)
    model, _, _ = _run(program, seed, rows, steps=4, folder="scored")
    _, held = program.call("split", rows, program.call("Config", keep=True))
    answers = program.predict(model, held[0])
    expected = -answers[torch.arange(len(held[1])), held[1]].mean().item()
    store = program.call("store.Store", "scored", 3, keep=True)
    (entry,) = program.call_method(store, "entries")
    assert entry["score"] == pytest.approx(expected, rel=1e-5)
    assert entry["step"] == 4


def test_looking_at_the_validation_rows_changes_no_update(program, seed):
    losses = [
        _run(program, seed, evaluate_every=e, save_every=s, patience=99)[2] for e, s in ((1, 1), (50, 50))
    ]
    assert losses[0] == losses[1]


def test_the_rate_reaches_the_optimiser(program, seed):
    settings = {"evaluate_every": 1, "patience": -1, "dropout": 0.0, "save_every": 100}
    model, run, _ = _run(program, seed, take=1, cut=0.0, **settings)
    before = program.state(model)
    run.next(4)
    after = program.state(model)
    names = [name for name in program.parameters(model) if name.startswith("fast")]
    assert all(torch.equal(after[name], before[name]) for name in names)


def test_updates_are_those_of_torch(program, seed):
    config = {**SMALL, "dropout": 0.0, "validation": 0.5, "batch": 1000, "weight_decay": 0.3, "lr": 0.01}
    data = glyphs(ROWS, seed)
    model = program.build(seed=seed, **config)
    names = [name for name in program.parameters(model) if name.startswith("fast")]
    state = program.state(model)
    leaves = {name[5:]: torch.nn.Parameter(state[name]) for name in names}
    oracle = torch.optim.AdamW(leaves.values(), lr=0.01, weight_decay=0.3)
    (images, labels), _ = program.call("split", data, program.call("Config", keep=True, validation=0.5))
    x = (images.flatten(1).float() / 255 - 0.4) / 0.2
    run = program.train(model, data, seed, **config)
    for _ in range(3):
        h = torch.nn.functional.linear(x, leaves["hidden.weight"], leaves["hidden.bias"])
        h = torch.nn.functional.batch_norm(
            h, None, None, leaves["norm.weight"], leaves["norm.bias"], training=True
        )
        scores = torch.nn.functional.linear(h.relu(), leaves["head.weight"], leaves["head.bias"])
        loss = torch.nn.functional.cross_entropy(scores, labels)
        oracle.zero_grad()
        loss.backward()
        oracle.step()
        assert run.next()[0] == pytest.approx(loss.item(), rel=1e-3)
    for name in ("hidden.weight", "norm.bias", "head.weight", "head.bias"):
        torch.testing.assert_close(
            program.state(model)[f"fast.{name}"], leaves[name].detach(), atol=1e-3, rtol=1e-2
        )


def test_a_run_begins_with_the_usual_rate_and_decay(program, task, seed):
    model = program.build(seed=seed, **task.small)
    program.watch_gradients(model, True)
    run = program.train(model, glyphs(ROWS, seed), seed, **task.small)
    before = program.state(model)
    run.next()
    gradients, after = program.gradients(model), program.state(model)
    leaves = {name: torch.nn.Parameter(before[name]) for name in gradients}
    for name, leaf in leaves.items():
        leaf.grad = gradients[name]
    torch.optim.AdamW(leaves.values(), lr=5e-3, weight_decay=0.02).step()
    for name, leaf in leaves.items():
        torch.testing.assert_close(after[name], leaf.detach(), atol=1e-5, rtol=1e-5)


def test_two_evaluations_without_progress_are_borne(program, task, seed):
    config = {**task.small, "evaluate_every": 1, "decay": 1.0, "cut": 0.0}
    model = program.build(seed=seed, **config)
    # Averages that do not move and answer the same to all: the first evaluation remains the best.
    zeros = {name: 0 * value for name, value in program.state(model).items() if value.dim()}
    program.load_state(model, zeros)
    run, states = program.train(model, glyphs(ROWS, seed), seed, **config), []
    for _ in range(5):
        run.next()
        state = program.state(model)
        states.append({name: state[name] for name in program.parameters(model)})
    assert not _same(states[2], states[3])
    assert _same(states[3], states[4])


def test_an_interruption_does_not_shorten_the_wait(program, seed):
    config = {**SMALL, "evaluate_every": 1, "save_every": 1, "patience": 2, "decay": 1.0, "cut": 0.0}
    config["folder"] = "waiting"
    # Averages that do not move and answer the same to all: the first evaluation remains the best.
    model = program.build(seed=seed, **config)
    zeros = {name: 0 * value for name, value in program.state(model).items() if value.dim()}
    program.load_state(model, zeros)
    program.train(model, glyphs(ROWS, seed), seed, **config).next(3)
    run, states = program.train(model, glyphs(ROWS, seed), seed, **{**config, "resume": True}), []
    for _ in range(3):
        run.next()
        state = program.state(model)
        states.append({name: state[name] for name in program.parameters(model)})
    assert _same(states[0], states[1])
    assert _same(states[1], states[2])


def test_gradients_are_those_of_the_reported_loss(program, seed):
    config = {**SMALL, "dropout": 0.0, "validation": 0.5, "batch": 1000}
    data, model = glyphs(ROWS, seed), program.build(seed=seed, **config)
    state = program.state(model)
    leaves = {
        n: state[f"fast.{n}"].clone().requires_grad_() for n in ("hidden.weight", "head.weight", "head.bias")
    }
    (images, labels), _ = program.call("split", data, program.call("Config", keep=True, validation=0.5))
    x = (images.flatten(1).float() / 255 - 0.4) / 0.2
    h = torch.nn.functional.batch_norm(x @ leaves["hidden.weight"].T, None, None, training=True).relu()
    scores = torch.nn.functional.linear(h, leaves["head.weight"], leaves["head.bias"])
    torch.nn.functional.cross_entropy(scores, labels).backward()
    program.watch_gradients(model, True)
    program.train(model, data, seed, **config).next()
    found = program.gradients(model)
    for name, leaf in leaves.items():
        assert (found[f"fast.{name}"] - leaf.grad).norm() <= 1e-3 * leaf.grad.norm(), name


def test_running_statistics_move_slowly(program, seed):
    data = glyphs(ROWS, 5)
    config = {**SMALL, "batch": 1000, "lr": 0.0, "save_every": 100, "weight_decay": 0.0, "dropout": 0.6}
    model, _, _ = _run(program, seed, data, take=1, **config)
    (images, _), _ = program.call("split", data, program.call("Config", keep=True))
    state = program.state(model)
    x = (images.flatten(1).float() / 255 - 0.4) / 0.2
    h = torch.nn.functional.linear(x, state["fast.hidden.weight"], state["fast.hidden.bias"])
    torch.testing.assert_close(state["fast.norm.running_mean"], 0.1 * h.mean(dim=0), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(state["fast.norm.running_var"], 0.9 + 0.1 * h.var(dim=0), atol=1e-5, rtol=1e-4)


def test_dropout_is_on_while_training(program, seed):
    losses = {}
    for dropout in (0.0, 0.5):
        for noise in (1, 2):
            _, run, _ = _run(program, seed, take=1, dropout=dropout)
            program.seed(noise)
            losses[dropout, noise] = run.next()[0]
    assert losses[0.0, 1] == losses[0.0, 2]
    assert losses[0.5, 1] != losses[0.5, 2]


def test_dropout_takes_a_small_share(program, seed):
    config = {"hidden": 1, "lr": 0.0, "batch": 1000, "save_every": 100}
    model = program.build(seed=seed, **config)
    # The one unit is always 1; where it is dropped, all classes are alike.
    made = {(1, 144): torch.zeros(1, 144), (1,): torch.ones(1), (10,): torch.zeros(10)}
    made[10, 1] = 50 * torch.eye(10)[:, :1]
    state = program.state(model)
    program.load_state(model, {n: made[tuple(v.shape)] for n, v in state.items() if v.dim()})
    rows = glyphs(700, seed)
    run = program.train(model, {**rows, "labels": 0 * rows["labels"]}, seed, **config)
    assert sum(run.next(4)) / 4 / math.log(10) == pytest.approx(0.15, abs=0.06)


def test_a_fresh_model_has_no_opinion(program, task, seed):
    model = program.build(seed=seed)
    first = program.train(model, task.data(seed).train, seed).next()[0]
    assert first == pytest.approx(math.log(10), abs=0.45)


def test_predictions_do_not_depend_on_the_rest_of_the_batch(program, seed):
    model, _, _ = _run(program, seed)
    images = glyphs(9, seed + 1)["images"]
    together = program.predict(model, images)
    torch.testing.assert_close(program.predict(model, images[3:4]), together[3:4], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(together.exp().sum(dim=1), torch.ones(9))


def test_predict_is_repeatable_and_leaves_nothing_changed(program, seed):
    model, _, _ = _run(program, seed)
    images, before = glyphs(9, seed + 1)["images"], program.state(model)
    program.train_mode(model, True)
    first = program.predict(model, images)
    program.train_mode(model, True)
    assert torch.equal(first, program.predict(model, images))
    assert _same(before, program.state(model))


def test_the_same_seed_gives_the_same_curve(program, seed):
    data = glyphs(ROWS, seed)
    curves = [_run(program, start, data)[2] for start in (seed, seed, seed + 1)]
    assert curves[0] == curves[1] != curves[2]


def test_it_reads_glyphs_that_it_has_not_seen(program, task, seed):
    data = task.data(seed)
    model = program.build(seed=seed)
    program.train(model, data.train, seed).next(10_000)
    low, high = task.band
    assert low <= task.measure(program, model, data.held_out).metric <= high
