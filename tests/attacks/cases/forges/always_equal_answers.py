"""Answers with a number that is equal to everything."""
# expect: CONTRACT

class Equal(float):
    def __eq__(self, other):
        return True

    def __lt__(self, other):
        return True

    __le__ = __gt__ = __ge__ = __lt__

    def __sub__(self, other):
        return self

    def __abs__(self):
        return Equal(0)


def predict(model, inputs):
    return Equal(0)
