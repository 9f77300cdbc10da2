"""Spins in a call that never lets another thread run."""
# judge: briefly hastily
# expect: TIMEOUT ERROR

def predict(model, inputs):
    return 3 ** (10**9) and model(inputs)
