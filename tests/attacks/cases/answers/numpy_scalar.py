"""Answers with something else than numbers, one a row: numpy scalar."""

def predict(model, inputs):
    return model(inputs).mean().numpy()[()]
