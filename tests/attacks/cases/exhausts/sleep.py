"""Sleeps for ever."""
# judge: briefly hastily
# expect: TIMEOUT

import time


def predict(model, inputs):
    time.sleep(10**6)
