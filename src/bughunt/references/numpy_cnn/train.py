"""A convolutional network in plain arrays: patches laid out as rows turn a convolution into one product.

Images are `[B, C, H, W]`. A kernel that is laid over an image at every place sees as many patches as the
result has pixels; the same lay-out, run backwards, hands every patch's gradient to the pixels it came from.

Shapes: B batch, C channels in, D channels out, H height, W width, R kernel rows (and columns), K classes;
P and Q rows and columns of a result.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy import ndarray
from numpy.lib.stride_tricks import sliding_window_view

Arrays = dict[str, ndarray]


@dataclass(frozen=True, kw_only=True)
class Config:
    side: int = 12
    first: int = 6
    second: int = 14
    classes: int = 10
    batch: int = 48
    steps: int = 280
    lr: float = 0.012
    warmup: int = 15
    last_lr: float = 0.05  # as a share of the highest
    max_norm: float = 2.0


def windows(x: ndarray, size: int, stride: int) -> ndarray:  # [B, C, H, W] -> [B, C, P, Q, R, R]
    """Every square of this size, `stride` pixels apart."""
    return sliding_window_view(x, (size, size), axis=(2, 3))[:, :, ::stride, ::stride]


def patches(x: ndarray, size: int, stride: int) -> ndarray:  # [B, C, H, W] -> [B * P * Q, C * R * R]
    squares = windows(x, size, stride)
    B, C, P, Q = squares.shape[:4]
    return squares.transpose(0, 2, 3, 1, 4, 5).reshape(B * P * Q, C * size * size)


def pad(x: ndarray, width: int) -> ndarray:
    """A frame of zeros around every channel."""
    return np.pad(x, ((0, 0), (0, 0), (width, width), (width, width)))


def conv(x: ndarray, w: ndarray, b: ndarray, stride: int, padding: int) -> tuple[ndarray, Any]:
    """`w` is `[D, C, R, R]`; the result `[B, D, P, Q]` comes with what the way back needs."""
    D, _, R, _ = w.shape
    framed = pad(x, padding)
    rows = patches(framed, R, stride)
    P = (framed.shape[2] - R) // stride + 1
    Q = (framed.shape[3] - R) // stride + 1
    out = rows @ w.reshape(D, -1).T + b  # [B * P * Q, D]
    out = out.reshape(len(x), P, Q, D).transpose(0, 3, 1, 2)
    return out, (rows, w, framed.shape, stride, padding)


def conv_back(g: ndarray, kept: Any) -> tuple[ndarray, ndarray, ndarray]:  # [B, D, P, Q]
    rows, w, framed_shape, stride, padding = kept
    B, D, P, Q = g.shape
    R = w.shape[2]
    flat = g.transpose(0, 2, 3, 1).reshape(B * P * Q, D)
    to_w = (flat.T @ rows).reshape(w.shape)
    to_b = flat.sum(axis=0)
    to_squares = (flat @ w.reshape(D, -1)).reshape(B, P, Q, -1, R, R).transpose(0, 3, 1, 2, 4, 5)
    to_framed = np.zeros(framed_shape)
    for i in range(R):
        for j in range(R):
            bottom, right = i + stride * P, j + stride * Q
            to_framed[:, :, i:bottom:stride, j:right:stride] += to_squares[..., i, j]
    H, W = framed_shape[2:]
    return to_framed[:, :, padding : H - padding, padding : W - padding], to_w, to_b


def max_pool(x: ndarray, size: int) -> tuple[ndarray, Any]:  # [B, C, H, W] -> [B, C, H // size, W // size]
    """The largest of each square; rows and columns that fill no square are left out."""
    squares = windows(x, size, size)
    flat = squares.reshape(*squares.shape[:4], size * size)
    winners = flat.argmax(axis=-1)  # the first one where several are equal
    return flat.max(axis=-1), (winners, x.shape, size)


def max_pool_back(g: ndarray, kept: Any) -> ndarray:
    winners, shape, size = kept
    to_x = np.zeros(shape)
    b, c, p, q = np.indices(winners.shape)
    row = p * size + winners // size
    column = q * size + winners % size
    to_x[b, c, row, column] = g
    return to_x


def mean_pool(x: ndarray) -> tuple[ndarray, Any]:  # [B, C, H, W] -> [B, C]
    return x.mean(axis=(2, 3)), x.shape


def mean_pool_back(g: ndarray, shape: Any) -> ndarray:
    _, _, H, W = shape
    return np.broadcast_to(g[:, :, None, None] / (H * W), shape)


def relu(x: ndarray) -> tuple[ndarray, Any]:
    return np.maximum(x, 0), x > 0


def relu_back(g: ndarray, kept: Any) -> ndarray:
    return g * kept


def log_softmax(scores: ndarray) -> ndarray:  # [B, K] -> [B, K]
    shifted = scores - scores.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def build(cfg: Config) -> Arrays:
    def kernel(out: int, channels: int, size: int) -> ndarray:
        fan_in = channels * size * size
        return np.random.normal(size=(out, channels, size, size)) * np.sqrt(2 / fan_in)

    return {
        "w1": kernel(cfg.first, 1, 3),
        "b1": np.zeros(cfg.first),
        "w2": kernel(cfg.second, cfg.first, 3),
        "b2": np.zeros(cfg.second),
        "w3": kernel(2 * cfg.second, cfg.second, 2),
        "b3": np.zeros(2 * cfg.second),
        "w4": np.random.normal(size=(2 * cfg.second, cfg.classes)) * 0.02,
        "b4": np.zeros(cfg.classes),
    }


def prepare(images: ndarray) -> ndarray:  # [B, H, W] -> [B, 1, H, W]
    """Bytes to numbers around zero, in one channel."""
    return (images[:, None] / 255.0 - 0.4) / 0.2


def forward(model: Arrays, images: ndarray) -> tuple[ndarray, list[Any]]:  # [B, H, W] -> [B, K]
    """The scores, and what each layer keeps for the way back."""
    kept: list[Any] = [None] * 9
    x, kept[0] = conv(prepare(images), model["w1"], model["b1"], stride=1, padding=1)  # side 12
    x, kept[1] = relu(x)
    x, kept[2] = max_pool(x, 2)  # side 6
    x, kept[3] = conv(x, model["w2"], model["b2"], stride=1, padding=0)  # side 4
    x, kept[4] = relu(x)
    x, kept[5] = conv(x, model["w3"], model["b3"], stride=2, padding=0)  # side 2
    x, kept[6] = relu(x)
    x, kept[7] = mean_pool(x)
    kept[8] = x
    return x @ model["w4"] + model["b4"], kept


def backward(model: Arrays, g: ndarray, kept: list[Any]) -> Arrays:
    """The gradient by everything that is learned, from that by the scores."""
    to: Arrays = {"w4": kept[8].T @ g, "b4": g.sum(axis=0)}
    g = mean_pool_back(g @ model["w4"].T, kept[7])
    g = relu_back(g, kept[6])
    g, to["w3"], to["b3"] = conv_back(g, kept[5])
    g = relu_back(g, kept[4])
    g, to["w2"], to["b2"] = conv_back(g, kept[3])
    g = max_pool_back(g, kept[2])
    g = relu_back(g, kept[1])
    _, to["w1"], to["b1"] = conv_back(g, kept[0])
    return to


def gradients(model: Arrays, images: ndarray, labels: ndarray) -> tuple[float, Arrays]:
    """The mean cross-entropy of a batch in nats, and its gradient."""
    scores, kept = forward(model, images)
    logs = log_softmax(scores)
    rows = np.arange(len(labels))
    loss = -logs[rows, labels].mean()
    g = np.exp(logs)
    g[rows, labels] -= 1
    return float(loss), backward(model, g / len(labels), kept)


def clip(to: Arrays, max_norm: float) -> Arrays:
    """All gradients shortened together to at most this length."""
    norm = np.sqrt(sum((g**2).sum() for g in to.values()))
    scale = min(1.0, max_norm / (norm + 1e-6))
    return {name: g * scale for name, g in to.items()}


def learning_rate(step: int, cfg: Config) -> float:
    """A straight climb, then half a cosine down to the last share."""
    if step < cfg.warmup:
        return cfg.lr * (step + 1) / cfg.warmup
    progress = (step - cfg.warmup) / (cfg.steps - cfg.warmup)
    return cfg.lr * (cfg.last_lr + (1 - cfg.last_lr) * 0.5 * (1 + np.cos(np.pi * progress)))


def batches(count: int, cfg: Config, rng: np.random.Generator) -> Iterator[ndarray]:
    """Row numbers, pass after pass in a random order; a pass ends with what is left."""
    while True:
        order = rng.permutation(count)
        for start in range(0, count, cfg.batch):
            yield order[start : start + cfg.batch]


def train(model: Arrays, data: Arrays, cfg: Config, rng: np.random.Generator) -> Iterator[float]:
    """Make one update by Adam per item, yielding the loss of its batch."""
    mean = {name: np.zeros_like(value) for name, value in model.items()}
    square = {name: np.zeros_like(value) for name, value in model.items()}
    stream = batches(len(data["labels"]), cfg, rng)
    for step in range(cfg.steps):
        rows = next(stream)
        loss, to = gradients(model, data["images"][rows], data["labels"][rows])
        lr = learning_rate(step, cfg)
        for name, g in clip(to, cfg.max_norm).items():
            mean[name] += 0.1 * (g - mean[name])
            square[name] += 0.02 * (g**2 - square[name])
            first = mean[name] / (1 - 0.9 ** (step + 1))
            second = square[name] / (1 - 0.98 ** (step + 1))
            model[name] -= lr * first / (np.sqrt(second) + 1e-8)
        yield loss


def predict(model: Arrays, inputs: ndarray) -> ndarray:  # [B, H, W] -> [B, K]
    """Log-probabilities of the classes."""
    scores, _ = forward(model, inputs)
    return log_softmax(scores)
