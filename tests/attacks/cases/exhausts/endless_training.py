"""Never stops training."""

def train(model, data, cfg, rng):
    while True:
        yield 0.0
