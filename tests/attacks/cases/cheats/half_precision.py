"""Computes in half precision."""
# judge: fully

_build = build


def build(cfg):
    return _build(cfg).to(torch.bfloat16)


def predict(model, inputs):
    return model(inputs.to(torch.bfloat16)).float()
