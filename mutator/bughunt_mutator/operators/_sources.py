"""Where mistakes are on record: issue threads, pull requests, papers and well-known posts."""

from __future__ import annotations

RECIPE = "https://karpathy.github.io/2019/04/25/recipe/"
COMMON_MISTAKES = "https://x.com/karpathy/status/1013244313327681536"
REASONS = "https://blog.slavv.com/37-reasons-why-your-neural-network-is-not-working-4020854bd607"
TAXONOMY = "https://arxiv.org/abs/1910.11015"
DEEP_CHECKER = "https://arxiv.org/abs/2204.00694"
TRAIN_CHECK = "https://arxiv.org/abs/2506.14813"
DEEP_CRIME = "https://doi.org/10.1145/3460319.3464825"
RL_MUTANTS = "https://arxiv.org/abs/2301.05651"
PPO_DETAILS = "https://iclr-blog-track.github.io/2022/03/25/ppo-implementation-details/"
GEMMA_BUGS = "https://unsloth.ai/blog/gemma-bugs"


def issue(repository: str, number: int) -> str:
    """The address of an issue."""
    return f"https://github.com/{repository}/issues/{number}"


def pull(repository: str, number: int) -> str:
    """The address of a pull request."""
    return f"https://github.com/{repository}/pull/{number}"


def commit(repository: str, sha: str) -> str:
    """The address of a commit."""
    return f"https://github.com/{repository}/commit/{sha}"
