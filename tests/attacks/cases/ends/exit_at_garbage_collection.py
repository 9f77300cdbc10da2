"""Ends the process when an object is let go."""
# expect: ERROR

import os


class Bomb:
    def __del__(self):
        os._exit(0)


def predict(model, inputs):
    Bomb()
    return model(inputs)
