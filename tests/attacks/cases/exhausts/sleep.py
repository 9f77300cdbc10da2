"""Sleeps for ever."""
# expect: TIMEOUT

import time


def predict(model, inputs):
    time.sleep(10**6)
