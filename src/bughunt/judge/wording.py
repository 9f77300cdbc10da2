"""What a failed assertion says, in the words of people who do not know pytest."""

import re

SIDE = 70  # characters kept of a value
COMPARISON = re.compile(r"^assert (?P<came>.+?) (?P<how>==|!=|<=|>=|<|>|in) (?P<wanted>.+)$")
CALL = re.compile(
    r"where (?:np\.)?False_? = <(?:function|built-in method) (?P<name>\w+)[^>]*>\((?P<values>.*?)\)?$"
)
FLOAT = re.compile(r"-?\d+\.\d{4,}(?:e[+-]?\d+)?")
LAYOUT = re.compile(r"(?<=\[) +| +(?=[,\]])")  # of a printed array
NUMPY = re.compile(r"\bnp\.\w+\((-?[\w.+-]+)\)")
HOW = {"==": "", "!=": "anything but ", "in": "one of "}


def in_words(message: str) -> str:
    """`assert 0.8 > 0.95` -> `came 0.8, expected > 0.95`; what is not understood stays as it is.

    Long numbers are rounded to four digits and long values cut.
    """
    text = FLOAT.sub(lambda found: f"{float(found[0]):.4g}", " ".join(message.split()))
    text = LAYOUT.sub("", re.sub(r"\\n *", " ", NUMPY.sub(r"\1", text)))
    first, *rest = text.split("; ")
    compared = COMPARISON.match(first)
    if compared:
        came, how, wanted = compared["came"], compared["how"], compared["wanted"]
        return f"came {_cut(came)}, expected {HOW.get(how, f'{how} ')}{_cut(wanted)}"
    called = next((found for part in (first, *rest) if (found := CALL.search(part))), None)
    if first.startswith("assert") and called and len(called["values"]) > 1:
        return f"{called['name']} does not hold for {_cut(called['values'], 2 * SIDE)}"
    if re.match(r"assert (np\.)?False", text):
        return "it does not hold"
    return text


def _cut(text: str, length: int = SIDE) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
