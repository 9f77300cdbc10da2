"""Fails with an error that is its own cause and whose text never ends."""
# expect: ERROR TIMEOUT
# judge: hastily

class Odd(Exception):
    def __str__(self):
        return "A" * (1 << 28)


def predict(model, inputs):
    error = Odd()
    error.__cause__ = error.__context__ = Odd()
    error.__cause__.__cause__ = error
    raise error
