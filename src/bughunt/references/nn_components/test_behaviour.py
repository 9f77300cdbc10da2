"""What the parts on the shelf do, held against those of torch and against arithmetic."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F


def _draw(seed, *shapes):
    rng = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=rng, dtype=torch.float64) for shape in shapes]


def _held(program, value):
    handle = program.call("torch.clone", value, keep=True)
    if value.is_floating_point():
        program.call_method(handle, "requires_grad_", keep=True)
    return handle


def _agree(program, call, function, inputs, seed, atol=1e-8):
    """`call(*handles)` gives a handle; its value and gradients have to be those of `function`."""
    handles = [_held(program, value) for value in inputs]
    leaves = [value.clone().requires_grad_(value.is_floating_point()) for value in inputs]
    out, expected = call(*handles), function(*leaves)
    found = program.call_method(out, "detach")
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected.detach(), atol=atol, rtol=1e-6)
    learned = [(h, leaf) for h, leaf in zip(handles, leaves, strict=True) if leaf.requires_grad]
    (weight,) = _draw(seed + 9, tuple(expected.shape))
    weight = weight.to(expected.dtype)
    wanted = torch.autograd.grad([expected], [leaf for _, leaf in learned], [weight])
    gradients = program.call("torch.autograd.grad", [out], [handle for handle, _ in learned], [weight])
    for gradient, right in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(gradient, right, atol=atol, rtol=1e-6)


def _part(program, name, *arguments):
    part = program.call(name, *arguments, keep=True)
    program.call_method(part, "double", keep=True)
    return part


def _compare(program, seed, part, oracle, x):
    """A layer and its oracle, with the same random weights."""
    oracle = oracle.double()
    state, values = program.state(part), oracle.state_dict()
    learned = program.parameters(part)
    drawn = dict(zip(learned, _draw(seed + 3, *(tuple(state[name].shape) for name in learned)), strict=True))
    program.load_state(part, drawn)
    names = [name for name, _ in oracle.named_parameters()]
    oracle.load_state_dict({**values, **dict(zip(names, drawn.values(), strict=True))})
    _agree(program, lambda h: program.call_method(part, "__call__", h, keep=True), oracle, [x], seed)


def test_a_linear_layer_is_that_of_torch(program, seed):
    _compare(program, seed, _part(program, "Linear", 4, 3), nn.Linear(4, 3), _draw(seed, (2, 5, 4))[0])
    part = _part(program, "Linear", 4, 3, False)
    assert len(program.parameters(part)) == 1
    _compare(program, seed, part, nn.Linear(4, 3, bias=False), _draw(seed, (5, 4))[0])


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluating"])
def test_batch_normalisation_is_that_of_torch(program, seed, training):
    part, oracle = _part(program, "BatchNorm", 4, 1e-5, 0.3), nn.BatchNorm1d(4, momentum=0.3).double()
    for x in _draw(seed, (7, 4), (6, 4)):
        program.call_method(part, "__call__", 3 * x + 2)
        oracle(3 * x + 2)
    learned = program.parameters(part)
    kept = [value for name, value in program.state(part).items() if name not in learned]
    for found, right in zip(kept, (oracle.running_mean, oracle.running_var), strict=True):
        torch.testing.assert_close(found, right)
    program.train_mode(part, training)
    oracle.train(training)
    _compare(program, seed, part, oracle, 2 * _draw(seed + 1, (5, 4))[0] - 1)


def test_batch_normalisation_has_the_usual_settings(program, seed):
    part, oracle = _part(program, "BatchNorm", 4), nn.BatchNorm1d(4).double()
    for x in _draw(seed, (7, 4), (6, 4)):
        program.call_method(part, "__call__", 3e-3 * x + 2)
        oracle(3e-3 * x + 2)
    program.train_mode(part, False)
    oracle.eval()
    _compare(program, seed, part, oracle, 3e-3 * _draw(seed + 1, (5, 4))[0])
    program.train_mode(part, True)
    oracle.train()
    _compare(program, seed, part, oracle, 3e-3 * _draw(seed + 1, (5, 4))[0])


def test_a_batch_far_from_zero_is_normalised_as_well(program, seed):
    part = program.call("BatchNorm", 4, keep=True)
    (x,) = _draw(seed, (50, 4))
    found = program.call_method(part, "__call__", (x + 3000).float(), keep=True)
    expected = (x - x.mean(dim=0)) / x.std(dim=0, unbiased=False)
    torch.testing.assert_close(program.call_method(found, "detach").double(), expected, atol=5e-3, rtol=5e-3)


def test_layer_normalisation_is_that_of_torch(program, seed):
    (x,) = _draw(seed, (3, 5, 6))
    _compare(program, seed, _part(program, "LayerNorm", 6), nn.LayerNorm(6), 4 * x + 3)
    _compare(program, seed, _part(program, "LayerNorm", 6, 0.1), nn.LayerNorm(6, eps=0.1), 0.1 * x)


def test_root_mean_square_normalisation_is_that_of_torch(program, seed):
    (x,) = _draw(seed, (3, 5, 6))
    _compare(program, seed, _part(program, "RMSNorm", 6), nn.RMSNorm(6, eps=1e-6), 4 * x + 3)
    _compare(program, seed, _part(program, "RMSNorm", 6, 0.1), nn.RMSNorm(6, eps=0.1), 0.1 * x)


def test_small_and_large_numbers_of_half_precision_are_normalised(program, seed):
    part = program.call("RMSNorm", 6, keep=True)
    x = _draw(seed, (4, 6))[0].half()
    for scale in (1.0, 1e3, 0.01):
        found = program.call_method(part, "__call__", x * scale)
        assert found.dtype == torch.float16
        wide = (x * scale).double()
        expected = wide / (wide.pow(2).mean(dim=-1, keepdim=True) + 1e-6).sqrt()
        torch.testing.assert_close(found.double(), expected, atol=5e-3, rtol=5e-3)


@pytest.mark.parametrize("shape", [(3, 6, 4, 5), (2, 6, 7), (4, 6)], ids=str)
def test_group_normalisation_is_that_of_torch(program, seed, shape):
    (x,) = _draw(seed, shape)
    _compare(program, seed, _part(program, "GroupNorm", 2, 6), nn.GroupNorm(2, 6), 4 * x + 3)


def test_a_position_is_normalised_by_itself(program, seed):
    (x,) = _draw(seed, (4, 6))
    changed = x.clone()
    changed[1:] = 7.0
    for name, arguments in (("LayerNorm", (6,)), ("RMSNorm", (6,)), ("GroupNorm", (3, 6))):
        part = _part(program, name, *arguments)
        one, other = (program.call_method(part, "__call__", value) for value in (x, changed))
        torch.testing.assert_close(one[0], other[0])


def test_an_embedding_gives_the_rows_of_its_table(program):
    part = _part(program, "Embedding", 7, 3, 2)
    (table,) = program.state(part).values()
    assert torch.equal(table[2], torch.zeros(3, dtype=torch.float64))
    assert table[[0, 1, 3, 4, 5, 6]].abs().min() > 0
    tokens = torch.tensor([[1, 2, 6], [2, 2, 0]])
    out = program.call_method(part, "__call__", tokens, keep=True)
    torch.testing.assert_close(program.call_method(out, "detach"), table[tokens])
    program.call_method(program.call_method(out, "sum", keep=True), "backward", keep=True)
    (gradient,) = program.gradients(part).values()
    assert gradient.sum(dim=1).tolist() == [3.0, 3.0, 0.0, 0.0, 0.0, 0.0, 3.0]


def test_an_embedding_without_padding_learns_every_row(program):
    part = _part(program, "Embedding", 4, 3)
    (table,) = program.state(part).values()
    assert table.abs().min() > 0
    out = program.call_method(part, "__call__", torch.tensor([0, 3, 0]), keep=True)
    program.call_method(program.call_method(out, "sum", keep=True), "backward", keep=True)
    (gradient,) = program.gradients(part).values()
    assert gradient[:, 0].tolist() == [2.0, 0.0, 0.0, 1.0]


def test_dropout_keeps_the_expectation(program, seed):
    part = program.call("Dropout", 0.3, keep=True)
    x = torch.ones(200, 100)
    program.seed(seed)
    found = program.call_method(part, "__call__", x)
    assert (found == 0).double().mean().item() == pytest.approx(0.3, abs=0.02)
    assert found.mean().item() == pytest.approx(1.0, abs=0.02)
    program.train_mode(part, False)
    assert torch.equal(program.call_method(part, "__call__", x), x)


ACTIVATIONS = {
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "softplus": F.softplus,
    "silu": F.silu,
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_is_that_of_torch(program, seed, name):
    (x,) = _draw(seed, (5, 6))
    call = lambda h: program.call(name, h, keep=True)  # noqa: E731
    _agree(program, call, ACTIVATIONS[name], [3 * x], seed)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_stay_finite_far_from_zero(program, name):
    x = torch.tensor([-1e4, -200.0, 200.0, 1e4])
    found = program.call(name, x)
    torch.testing.assert_close(found, ACTIVATIONS[name](x))


LOSSES = {
    "cross_entropy": ("classes", {}, lambda x, y: F.cross_entropy(x, y)),
    "cross_entropy_sum": (
        "classes",
        {"reduction": "sum"},
        lambda x, y: F.cross_entropy(x, y, reduction="sum"),
    ),
    "cross_entropy_none": (
        "classes",
        {"reduction": "none"},
        lambda x, y: F.cross_entropy(x, y, reduction="none"),
    ),
    "cross_entropy_smooth": (
        "classes",
        {"smoothing": 0.3},
        lambda x, y: F.cross_entropy(x, y, label_smoothing=0.3),
    ),
    "cross_entropy_ignored": ("classes", {"ignore": 1}, lambda x, y: F.cross_entropy(x, y, ignore_index=1)),
    "cross_entropy_smooth_ignored": (
        "classes",
        {"ignore": 1, "smoothing": 0.3},
        lambda x, y: F.cross_entropy(x, y, ignore_index=1, label_smoothing=0.3),
    ),
    "bce_with_logits": ("yes", {}, F.binary_cross_entropy_with_logits),
    "bce_with_logits_weighted": (
        "yes",
        {"positive_weight": 3.0, "reduction": "sum"},
        lambda x, y: F.binary_cross_entropy_with_logits(x, y, pos_weight=torch.tensor(3.0), reduction="sum"),
    ),
    "huber": ("pair", {}, F.huber_loss),
    "huber_wide": ("pair", {"delta": 2.5, "reduction": "none"}, lambda x, y: F.huber_loss(x, y, "none", 2.5)),
    "triplet": ("triple", {}, F.triplet_margin_loss),
    "triplet_far": (
        "triple",
        {"margin": 3.0, "reduction": "sum"},
        lambda a, s, o: F.triplet_margin_loss(a, s, o, margin=3.0, reduction="sum"),
    ),
}


def _questions(kind, seed):
    x, y, z = _draw(seed, (12, 4), (12, 4), (12, 4))
    whole = torch.randint(4, (12,), generator=torch.Generator().manual_seed(seed))
    whole[:2] = torch.tensor([1, 2])
    return {
        "classes": [2 * x, whole],
        "yes": [2 * x, (y > 0.3).double()],
        "pair": [3 * x, y],
        "triple": [x, x + 0.7 * y, z],
    }[kind]


@pytest.mark.parametrize("case", LOSSES)
def test_a_loss_is_that_of_torch(program, seed, case):
    kind, settings, function = LOSSES[case]
    name = next(n for n in ("cross_entropy", "bce_with_logits", "huber", "triplet") if case.startswith(n))
    inputs = _questions(kind, seed)
    targets = [value for value in inputs if kind == "yes"][1:]
    if targets:  # labels are no place for a gradient
        call = lambda h: program.call(name, h, targets[0], keep=True, **settings)  # noqa: E731
        _agree(program, call, lambda x: function(x, targets[0]), inputs[:1], seed)
    else:
        call = lambda *h: program.call(name, *h, keep=True, **settings)  # noqa: E731
        _agree(program, call, function, inputs, seed)


def test_a_single_row_has_a_loss_of_its_own(program, seed):
    logits, targets = _questions("classes", seed)
    found = program.call("cross_entropy", logits[:1], targets[:1], reduction="none")
    torch.testing.assert_close(found, F.cross_entropy(logits[:1], targets[:1], reduction="none"))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("gamma", [0.0, 2.0, 3.5])
def test_the_focal_loss_turns_away_from_what_is_right(program, seed, gamma, reduction):
    logits, targets = _questions("yes", seed)
    chance = torch.sigmoid(logits)
    right = torch.where(targets == 1, chance, 1 - chance)
    weight = torch.where(targets == 1, 0.3, 0.7)
    expected = -weight * (1 - right) ** gamma * right.log()
    found = program.call("focal", logits, targets, 0.3, gamma, reduction)
    if reduction != "none":
        expected = expected.mean() if reduction == "mean" else expected.sum()
    torch.testing.assert_close(found, expected)


def test_losses_stay_finite_when_the_answer_is_very_wrong(program):
    x = torch.tensor([[1e4, -1e4], [-1e4, 1e4]])
    wrong = torch.tensor([1, 0])
    assert program.call("cross_entropy", x, wrong).item() == pytest.approx(2e4)
    yes = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    assert program.call("bce_with_logits", x, yes).item() == pytest.approx(1e4)
    assert program.call("focal", x, yes, 0.25, 2.0).item() == pytest.approx(5e3)


def _weight(program, name, shape, seed, *settings):
    empty = program.call("torch.zeros", *shape, keep=True)
    program.seed(seed)
    program.call(name, empty, *settings, keep=True)
    return program.call_method(empty, "clone")


@pytest.mark.parametrize("shape", [(120, 60), (60, 120), (30, 20, 3, 3)], ids=str)
def test_first_weights_have_the_spread_that_their_rule_gives(program, seed, shape):
    places = math.prod(shape[2:])
    fan_in, fan_out = shape[1] * places, shape[0] * places
    even = _weight(program, "xavier_uniform_", shape, seed, 1.7)
    bound = 1.7 * math.sqrt(6 / (fan_in + fan_out))
    assert even.abs().max().item() == pytest.approx(bound, rel=0.01)
    assert even.abs().max().item() <= bound
    assert even.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)
    for slope in (0.0, 0.5):
        normal = _weight(program, "kaiming_normal_", shape, seed, slope)
        spread = nn.init.calculate_gain("leaky_relu", slope) / math.sqrt(fan_in)
        assert normal.std().item() == pytest.approx(spread, rel=0.05)
        assert abs(normal.mean().item()) < 0.05 * spread


@pytest.mark.parametrize("shape", [(12, 5), (5, 12), (6, 2, 3, 2)], ids=str)
def test_rows_or_columns_stand_at_right_angles(program, seed, shape):
    weight = _weight(program, "orthogonal_", shape, seed, 1.5).flatten(1)
    product = weight @ weight.T if shape[0] < weight.size(1) else weight.T @ weight
    torch.testing.assert_close(product, 2.25 * torch.eye(len(product)), atol=1e-5, rtol=1e-4)


def test_right_angles_point_anywhere(program, seed):
    # Drawn evenly, the sum of the diagonal is as often negative as positive.
    signs = [(_weight(program, "orthogonal_", (3, 3), seed + n).diagonal() > 0).tolist() for n in range(40)]
    firsts = [sum(column) for column in zip(*signs, strict=True)]
    assert all(6 <= count <= 34 for count in firsts)


def test_a_signal_keeps_its_strength_through_many_layers(program, seed):
    program.seed(seed)
    network = program.call("Network", 100, 20, keep=True)
    assert len(program.parameters(network)) == 40
    (x,) = _draw(seed, (200, 100))
    seen = program.call_method(network, "__call__", x.float())
    assert seen.shape == (20, 200, 100)
    strengths = seen.pow(2).mean(dim=(1, 2)).sqrt()  # a ReLU passes half of the squares of a signal of two
    assert strengths.min() > 0.2
    assert strengths.max() < 5
    assert seen.min() == 0


def test_every_parameter_of_a_deep_network_gets_a_gradient(program, seed):
    network = program.call("Network", 12, 4, keep=True)
    (x,) = _draw(seed, (9, 12))
    seen = program.call_method(network, "__call__", x.float(), keep=True)
    last = program.call_method(seen, "__getitem__", -1, keep=True)
    program.call_method(program.call_method(last, "sum", keep=True), "backward", keep=True)
    gradients = program.gradients(network)
    assert set(gradients) == set(program.parameters(network))
    assert all(gradient.abs().max() > 0 for gradient in gradients.values())
