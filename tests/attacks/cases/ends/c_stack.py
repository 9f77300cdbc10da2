"""Runs out of the stack that C has."""
# expect: ERROR TIMEOUT
# judge: hastily

import sys


def predict(model, inputs):
    sys.setrecursionlimit(10**9)
    nested = []
    for _ in range(200_000):
        nested = [nested]
    return repr(nested)
