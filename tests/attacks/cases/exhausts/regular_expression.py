"""Spins in an expression that takes for ever, deaf to Python's own signals."""
# expect: TIMEOUT
# judge: briefly hastily

import re


def predict(model, inputs):
    return re.match(r"(a+)+$", "a" * 60 + "b")
