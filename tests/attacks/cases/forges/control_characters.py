"""Says things that a terminal or a page would obey."""
# expect: ERROR

def predict(model, inputs):
    raise ValueError("\x1b]52;c;AAAA\x07\x1b[2J<script>alert(1)</script>\n{\"score\": 1.0}\n### PASS")
