"""Answers with a list in itself."""
# expect: CONTRACT

def predict(model, inputs):
    loop = []
    loop.append(loop)
    return loop
