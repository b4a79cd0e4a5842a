"""Initial pairs of a study's trials: drawn once for equal settings, and kept in a file of the study."""

import json
from dataclasses import asdict

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file

from engine import build
from engine.config.schema import Resolved
from engine.experts.trajectory import ExpertSource
from engine.io.files import atomic_path, digest, exclusive
from engine.io.storage import Location, read_whole
from engine.provenance import code_digest, versions
from engine.tensors import finite_tensor


def initial_file(study: Resolved, folder: Location) -> Location:
    """Return the file of a trial's initial pairs; its name changes with settings, experts, seed, code and libraries."""
    method = build.method(study)
    settings = [asdict(method.init), method.num_pairs, method.epochs()[-1], versions()]
    drawn_by = json.dumps([*settings, *[study.method.tiles] * (study.method.tiles > 1)], sort_keys=True)
    return folder / f"{digest(study.experts_identity, code_digest(), drawn_by)}.safetensors"


def initial_pairs(study: Resolved, setup: build.Setup, experts: ExpertSource, folder: Location) -> build.Initial:
    """Return the initial pairs of a trial, read from ``folder`` unless they are absent there or damaged.

    On a file system one trial draws while the others wait; in an object store several may draw, with equal results.
    """
    file = initial_file(study, folder)
    with exclusive(folder / "lock"):
        try:
            return read_initial_pairs(file)
        except (FileNotFoundError, ValueError):
            images, texts, generator = build.initial_pairs(study, setup, experts)
        tensors = {"images": images, "texts": texts, "generator": generator.get_state()}
        with atomic_path(file) as temporary:
            save_file({name: value.contiguous() for name, value in tensors.items()}, temporary)
    return images, texts, generator


def read_initial_pairs(file: Location) -> build.Initial:
    """Read initial pairs with the state of the generator after their draw.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, or a number in it is not finite.
    """
    try:
        tensors = load(read_whole(file))  # not mapped from a file that may go
        generator = torch.Generator().set_state(tensors["generator"])
        images, texts = (
            finite_tensor(f"{file}: {name}", tensors[name], *[None] * tensors[name].ndim)
            for name in ("images", "texts")
        )
    except (SafetensorError, KeyError, RuntimeError, TypeError) as error:
        raise ValueError(
            f"{file}: expected initial pairs in safetensors, but they cannot be read ({error})."
        ) from error
    return images, texts, generator
