"""Announces four gigabytes."""
# expect: ERROR INFRA

import os


def predict(model, inputs):
    os.write(3, b"\xff\xff\xff\xff" + b"x" * 1000)
    return model(inputs)
