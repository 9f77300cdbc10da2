"""Recurses without a limit."""
# judge: hastily
# expect: ERROR TIMEOUT

import sys


def predict(model, inputs):
    sys.setrecursionlimit(10**9)

    def down(depth):
        return down(depth + 1)

    return down(0)
