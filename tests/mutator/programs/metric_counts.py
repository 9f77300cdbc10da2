"""Metrics of classifiers, of a language model and of segmentation, and a run that stops by them."""

import copy
import math

import torch
from torch import nn
from torch.nn import functional as F


class Coder(nn.Module):
    """A linear model of codes with a sampled middle."""

    def __init__(self):
        super().__init__()
        self.inward = nn.Linear(4, 4)
        self.outward = nn.Linear(2, 4)

    def reparameterize(self, mu, logvar):
        std = (logvar / 2).exp()
        return mu + std * torch.randn_like(std)

    def forward(self, x):
        mu, logvar = self.inward(x).chunk(2, dim=1)
        return self.outward(self.reparameterize(mu, logvar)), mu, logvar


@torch.no_grad()
def evaluate_bound(coder, x):
    mu, logvar = coder.inward(x).chunk(2, dim=1)
    code = coder.reparameterize(mu, logvar)
    distance = ((coder.outward(code) - x) ** 2).sum() / 2
    return (distance - (1 + logvar - mu**2 - logvar.exp()).sum() / 2).item() / len(x)


@torch.no_grad()
def evaluate(net, x, y, batch_size):
    """Mean loss, accuracy and perplexity."""
    total, hits, seen = 0.0, 0.0, 0
    for inputs, labels in zip(x.split(batch_size), y.split(batch_size), strict=True):
        logits = net(inputs)
        total += F.cross_entropy(logits, labels).item() * len(labels)
        guesses = logits.argmax(dim=1)[: len(labels)]
        hits += (guesses == labels[: len(guesses)]).sum().item()
        seen += len(labels)
    return total / seen, hits / seen, math.exp(total / seen)


def fit(net, data, patience=3):
    ema = copy.deepcopy(net)
    best, waited, history = math.inf, 0, []
    x_train, y_train = data["x_train"], data["y_train"]
    x_val, y_val = data["x_val"], data["y_val"]
    for _ in range(30):
        loss = F.cross_entropy(net(x_train), y_train)
        gradients = torch.autograd.grad(loss, list(net.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(net.parameters(), gradients, strict=True):
                parameter -= 2.0 * gradient
            for slow, fast in zip(ema.parameters(), net.parameters(), strict=True):
                slow.lerp_(fast, 0.5)
        held, _, _ = evaluate(ema, x_val, y_val, 5)
        history.append(held)
        waited = 0 if held < best else waited + 1
        best = min(best, held)
        if waited >= patience:
            break
    return history


def found(logits, answers):
    """Share of the positives that are found."""
    chosen = torch.sigmoid(logits) > 0.5
    return ((chosen & answers).sum() / answers.sum()).item()


def recall(guesses, labels, classes):
    tp = torch.stack([((guesses == k) & (labels == k)).sum() for k in range(classes)])
    support = torch.stack([(labels == k).sum() for k in range(classes)])
    return (tp / support).mean().item()


def overlap(masks, answers):
    inter = (masks & answers).sum(dim=1)
    union = (masks | answers).sum(dim=1)
    return (inter.sum() / union.sum()).item()


def auc(scores, answers):
    """The chance that a positive has a larger score than a negative."""
    gaps = scores[answers][:, None] - scores[~answers][None]
    return ((gaps > 0).float() + (gaps == 0).float() / 2).mean().item()


def fingerprint():
    torch.manual_seed(0)
    x = torch.randn(43, 4)
    y = (x[:, 0] > 0.8).long() + (x[:, 1] + torch.randn(43) > 0).long() * 2
    y[y == 3] = 4
    data = {"x_train": x[:20], "y_train": y[:20], "x_val": x[20:], "y_val": y[20:]}
    net = nn.Linear(4, 5)
    history = fit(net, data)
    logits = net(data["x_val"]).detach()
    positive = data["y_val"] == 2
    scores = logits[:, 2]
    return [
        len(history),
        *history,
        *evaluate(net, data["x_val"], data["y_val"], 5),
        found(scores, positive),
        recall(logits.argmax(dim=1), data["y_val"] % 3, 3),
        overlap(x[:20] > 0, x[20:40] > 0.3),
        auc(scores, positive),
        evaluate_bound(Coder(), x),
    ]
