"""Spins for ever, deaf to signals."""
# judge: briefly hastily
# expect: TIMEOUT

import signal

for number in range(1, 65):
    try:
        signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError):
        pass


def predict(model, inputs):
    while True:
        pass
