"""The judge's side of `vae-digits`: the evidence lower bound, computed here from what comes back."""

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Normal, kl_divergence

from bughunt.references.data import digits
from bughunt.task import Data, Measurement, Model, Program, Task

LATENT = 6
TRAINED, HELD_OUT = 1500, 500


def _data(seed: int) -> Data:
    images, _ = digits.draw(TRAINED + HELD_OUT, np.random.default_rng(seed))
    tensor = torch.from_numpy(images)
    noise = torch.randn(HELD_OUT, LATENT, generator=torch.Generator().manual_seed(seed))
    held_out = {"images": tensor[TRAINED:], "noise": noise}
    return Data(train=tensor[:TRAINED], held_out=held_out)


def negative_elbo(program: Program, model: Model, images: Tensor, noise: Tensor) -> float:
    """Nats per image, with the judge's own noise; the codes are decoded in another order."""
    mu, logvar = program.call("encode", model, images)
    deviation = (logvar / 2).exp()
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(len(images)))
    logits = program.call("decode", model, (mu + deviation * noise)[order])
    ink = images[order].float() / 255
    pixels = -Bernoulli(logits=logits, validate_args=False).log_prob(ink)
    prior = kl_divergence(Normal(mu, deviation, validate_args=False), Normal(0.0, 1.0))
    return float(pixels.flatten(1).sum(1).mean() + prior.sum(1).mean())


def greyness(images: Tensor) -> float:
    """The part of the bound that no decoder can avoid: the entropy of the grey pixels themselves."""
    ink = images.float() / 255
    return float(Bernoulli(probs=ink).entropy().flatten(1).sum(1).mean())


def _measure(program: Program, model: Model, held_out: dict[str, Tensor]) -> Measurement:
    images, noise = held_out["images"], held_out["noise"]
    bound = negative_elbo(program, model, images, noise)
    return Measurement(curve=bound - greyness(images), metric=bound)


TASK = Task(
    slug="vae-digits",
    title="Variational autoencoder",
    kind="generative",
    topics=("S25", "S62"),
    categories=("GEN", "LOS", "NUM", "GRD"),
    data=_data,
    measure=_measure,
    curve_name="held-out excess loss",
    metric_name="-ELBO (nats per image)",
    metric_higher_is_better=False,
    band=(26.4, 28.3),  # 26.90 to 27.73 over seeds 0-9
    steps=600,
    small={"steps": 200, "warmup": 40},
    floor=4.0,  # healthy runs end at 6.3 to 7.5
    exports=("encode", "decode", "kl", "reparameterise"),
    cpu_seconds=0.8,
)
