"""Fails with errors within errors within errors."""
# expect: ERROR

def predict(model, inputs):
    error = ValueError("innermost")
    for _ in range(5000):
        error = ExceptionGroup("more", [error])
    raise error
