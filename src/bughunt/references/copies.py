"""A model's copy, for behaviour tests that change what another test would like to borrow."""

from bughunt.task import Model, Program


def copy_of(program: Program, model: Model, seed: int, **config: object) -> Model:
    """A model of its own with the weights and buffers of another one of that configuration."""
    twin = program.build(seed=seed, **config)
    program.load_state(twin, program.state(model))
    return twin
