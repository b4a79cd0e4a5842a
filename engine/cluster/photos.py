"""Decode photos once, in shards, by tasks on all nodes; this file imports no torch, so that workers start soon."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

import ray

from engine.data.cache import ShardedArray
from engine.data.images import decode_all
from engine.data.undecodable import UndecodableError
from engine.io.progress import bar


def decode(arrays: Sequence[ShardedArray], *, cpus: float) -> None:
    """Decode the photos of several arrays that are absent, by tasks of some CPUs each, and open the arrays.

    Raises:
        UndecodableError: files are not images that can be decoded; all of all arrays are tried.
    """
    absent = [array for array in arrays if not array.here]
    if not all(array.few for array in absent):
        _make_shards(absent, cpus)
    decode_all(arrays)


def _make_shards(arrays: Sequence[ShardedArray], cpus: float) -> None:
    """Write the missing shards, except those with broken photos, and show the progress."""
    task = ray.remote(_decode_shard).options(num_cpus=cpus or 1, max_retries=2)
    left: dict[ray.ObjectRef, int] = {}
    for array in arrays:
        sent = ray.put(replace(array, make=partial(array.make, threads=max(1, int(cpus)))))
        left |= {task.remote(sent, first): array.rows_from(first) for first in array.missing()}
    total = sum(map(len, arrays))
    with bar("preparing photos", total=total, done=total - sum(left.values()), unit="photos") as progress:
        while left:
            (ended,), _ = ray.wait(list(left))
            with suppress(UndecodableError):  # opening the array tries these photos again, and names them all
                ray.get(ended)
            progress.advance(left.pop(ended))


def _decode_shard(array: ShardedArray, first: int) -> int:
    return array.write(first)
