"""Everything that the rest of a run depends on, as one dict of tensors and plain values, and back again."""

import torch
from network import Pair
from progress import Plateau, Sampler
from settings import Config, fingerprint
from torch.optim import Optimizer


class MismatchError(ValueError):
    """A checkpoint that belongs to another run."""


def random_state() -> dict:
    """Of the generators that dropout draws from."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def set_random_state(state: dict) -> None:
    torch.set_rng_state(state["cpu"].cpu())
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all([one.cpu() for one in state["cuda"]])


def capture(
    model: Pair, optimizer: Optimizer, plateau: Plateau, sampler: Sampler, step: int, cfg: Config
) -> dict:
    """The state after `step` updates; later updates leave it as it is."""
    return {
        "settings": fingerprint(cfg),
        "step": step,
        "model": {name: value.clone() for name, value in model.state_dict().items()},
        "optimizer": optimizer.state_dict(),
        "plateau": plateau.state_dict(),
        "sampler": sampler.state_dict(),
        "random": random_state(),
    }


def restore(
    state: dict, model: Pair, optimizer: Optimizer, plateau: Plateau, sampler: Sampler, cfg: Config
) -> int:
    """Put a state back; says how many updates had been made. MismatchError for another run's."""
    missing = {"settings", "step", "model", "optimizer", "plateau", "sampler", "random"} - state.keys()
    if missing:
        raise MismatchError(f"the checkpoint lacks {', '.join(sorted(missing))}")
    if state["settings"] != fingerprint(cfg):
        raise MismatchError("the checkpoint was written under other settings")
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    plateau.load_state_dict(state["plateau"])
    sampler.load_state_dict(state["sampler"])
    set_random_state(state["random"])
    return state["step"]
