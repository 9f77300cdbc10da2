"""Reads from address 0."""
# expect: ERROR

import ctypes


def predict(model, inputs):
    ctypes.string_at(0)
