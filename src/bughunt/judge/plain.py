"""Values as JSON can say them."""

import math
from collections.abc import Mapping
from typing import Any


def finite(value: Any) -> Any:
    """The same value with None where JSON has no word for a number."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [finite(part) for part in value]
    return value
