"""vldistill: the experiment engine for vision-language dataset distillation.

Importing this package loads neither torch, Ray nor MLflow; the public names below are imported when first used.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "PairDataset": "engine.data.pairs",
    "TwoTower": "engine.models.two_tower",
    "SyntheticSet": "engine.synthetic.set",
    "Protocol": "engine.evaluation.protocol",
    "retrieval_metrics": "engine.evaluation.retrieval",
    "train_expert": "engine.experts.train",
    "ExpertSource": "engine.experts.trajectory",
    "Distillation": "engine.distill",
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for (PEP 562)."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'engine' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
