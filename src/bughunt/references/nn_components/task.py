"""The judge's side of `nn-components`: no training, the behaviour of each part is the verdict."""

from bughunt.task import toolkit

TASK = toolkit(
    "nn-components",
    "Component shelf",
    topics=("S14", "S21", "S27", "S39", "S65", "S73", "S75"),
    categories=("LOS", "NUM", "NRM", "INI", "GRD", "SHP", "API"),
    exports=(
        "xavier_uniform_",
        "kaiming_normal_",
        "orthogonal_",
        "Linear",
        "Embedding",
        "Dropout",
        "BatchNorm",
        "LayerNorm",
        "RMSNorm",
        "GroupNorm",
        "gelu",
        "gelu_tanh",
        "softplus",
        "silu",
        "cross_entropy",
        "bce_with_logits",
        "focal",
        "huber",
        "triplet",
        "Network",
    ),
)
