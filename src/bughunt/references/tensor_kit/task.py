"""The judge's side of `tensor-kit`: no training, the behaviour of each operation is the verdict."""

from bughunt.task import toolkit

TASK = toolkit(
    "tensor-kit",
    "Tensor toolbox",
    topics=("S1", "S6", "S13", "S14", "S15", "S16", "S64", "S71"),
    categories=("SHP", "IDX", "MSK", "NUM", "PRF", "API"),
    exports=(
        "pairwise_distances",
        "take_rows",
        "put_rows",
        "segment_sum",
        "segment_mean",
        "segment_max",
        "one_hot",
        "sliding_windows",
        "to_channels_last",
        "to_channels_first",
        "image_to_patches",
        "patches_to_image",
        "split_heads",
        "merge_heads",
        "repeat_groups",
        "length_mask",
        "masked_softmax",
        "masked_mean",
        "last_token",
        "outer_products",
        "bilinear",
        "standardise",
        "normalise_rows",
        "top_k_mask",
        "log_sum_exp",
        "running_mean",
    ),
)
