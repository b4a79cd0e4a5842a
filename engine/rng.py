"""One seed fans out into named random streams, so that every draw can be repeated alone."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def named_generator(seed: int, name: str) -> torch.Generator:
    """Return a fresh CPU generator for the stream ``name`` of ``seed``.

    Streams are independent of one another and of the order in which they are asked for. A stream that belongs to a
    step carries the step in its name (``"outer/17"``), so that resuming needs no stored generator state.
    """
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def draw_seed(generator: torch.Generator) -> int:
    """Draw one integer seed from ``generator`` for a library that takes seeds instead of generators."""
    return int(torch.randint(0, 2**31 - 1, (), generator=generator))


@contextmanager
def forked(generator: torch.Generator) -> Iterator[None]:
    """Seed torch's global CPU generator from ``generator`` inside the block, and restore it afterwards.

    For library initialisers (timm, ``nn.Linear.reset_parameters``) that accept no generator.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(draw_seed(generator))
        yield
