"""The judge's side of `llama-mini`: next-token prediction on a source of known entropy."""

from bughunt.references.data import grammar
from bughunt.references.tiny_gpt.task import data, measure
from bughunt.task import Task

TASK = Task(
    slug="llama-mini",
    title="Modern decoder with speculative decoding",
    kind="language-model",
    topics=("S24", "S60", "S68", "S70", "S73"),
    categories=("IDX", "SHP", "NUM", "STA", "GEN"),
    data=data,
    measure=measure,
    curve_name="held-out loss",
    metric_name="perplexity",
    metric_higher_is_better=False,
    band=(1.93, 2.35),  # seeds 0-9: 2.110 to 2.207
    steps=190,
    small={"steps": 30, "batch": 16},
    probes=15,
    floor=grammar.ENTROPY,
    exports=("attend", "rotate", "angles", "RMSNorm", "greedy", "continued"),
    cpu_seconds=2.6,
)
