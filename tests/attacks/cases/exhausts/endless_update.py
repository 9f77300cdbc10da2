"""Works for ever in one update."""
# judge: briefly hastily
# expect: TIMEOUT

import itertools


def train(model, data, cfg, rng):
    for _ in itertools.count():
        model(data[0])
    yield 0.0
