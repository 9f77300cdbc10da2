"""Spreads its waiting over many answers."""
# judge: fully hastily
# expect: TIMEOUT

import time

_train = train


def train(model, data, cfg, rng):
    for loss in _train(model, data, cfg, rng):
        time.sleep(0.3)
        yield loss
