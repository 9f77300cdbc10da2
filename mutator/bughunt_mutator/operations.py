"""Array operations by name: which keep a shape, which work along an axis, which reduce."""

from __future__ import annotations

import ast
from operator import add, floordiv, mod, mul, sub

LIBRARIES = frozenset({"torch", "torch.nn.functional", "torch.special", "torch.linalg", "numpy"})


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


POINTWISE = _words(
    """abs acos add addcdiv asin astype atan bernoulli bool ceil clamp clamp_max clamp_min clip clone
    contiguous copy copysign cos cpu detach detach_ div divide double dropout elu erf exp expm1 float floor
    full_like gelu half int isfinite isinf isnan leaky_relu lerp log log10 log1p log2 logical_and logical_not
    logical_or long masked_fill maximum minimum mul multiply nan_to_num neg negative ones_like pow power
    rand_like randn_like reciprocal relu requires_grad_ round rsqrt sigmoid sign silu sin softplus sqrt square
    sub subtract tan tanh to tril triu trunc type type_as where zeros_like"""
)
ALONG = _words("argsort cumprod cumsum flip log_softmax logcumsumexp softmax")
REDUCING = _words(
    """all amax amin any argmax argmin count_nonzero logsumexp mean nanmean nansum norm prod ptp std sum var
    vector_norm"""
)
PAIRING = _words("max median min mode")  # along an axis torch gives a pair
TURNED = _words("T mT")
ARITHMETIC = {ast.Add: add, ast.Sub: sub, ast.Mult: mul, ast.FloorDiv: floordiv, ast.Mod: mod}
WHOLE = _words("backward item")  # of one number alone
