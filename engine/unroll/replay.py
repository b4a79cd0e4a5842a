"""The gradient of an unroll as one CUDA graph, where its launches take longer than its kernels."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from engine.unroll.steps import InnerBatch, Unroll, UnrollGradient

GPUS: tuple[str, ...] = ()
"""Types of devices on which graphs are recorded: none until it was measured on a GPU (``benchmarks.replay`` does)."""

MOST = 4
"""Graphs that a process keeps; the one that was not used for longest goes."""

Gradient = Callable[[Unroll], UnrollGradient]


@dataclass(frozen=True, eq=False)
class Recorded:
    """A gradient recorded for unrolls of one kind: the tensors that it reads, those that it writes, and a replay."""

    kind: tuple[Any, ...]
    inputs: list[Tensor]
    outputs: UnrollGradient
    replay: Callable[[], None]


_seen: list[tuple[Any, ...]] = []
_recorded: list[Recorded] = []
_refused: list[tuple[Any, ...]] = []


def replayed(gradient: Gradient, unroll: Unroll) -> UnrollGradient:
    """Return ``gradient(unroll)``; unrolls of one kind are recorded at their second time and replayed from then on.

    A step of heads is some hundreds of small kernels, which a GPU ends before the next ones are launched; a graph
    launches all of an outer step at once. The first unroll of a kind runs as usual and lets libraries allocate what
    they need. At the second one the replay is compared with what was launched: a kind that cannot be recorded, or whose
    replay has other bits, is launched as usual for good. Unrolls of one kind differ in the numbers of tensors alone:
    their losses are partials of the same functions, whose arguments that are no tensors are equal.
    """
    if not can_replay(unroll):
        return gradient(unroll)
    tensors, kind = _kind(gradient, unroll)
    found = next((one for one in _recorded if one.kind == kind), None)
    if found is not None:
        _keep(found)
        return _replay(found, tensors)
    wanted = gradient(unroll)
    if kind in _seen and kind not in _refused:
        _try_to_record(gradient, unroll, tensors, kind, wanted)
    elif kind not in _seen:
        _seen[:] = [*_seen[1 - MOST :], kind]
    return wanted


def _keep(recorded: Recorded) -> None:
    """Put a recording at the end of those that are kept, and drop what is too much."""
    _recorded[:] = [*[one for one in _recorded if one is not recorded][1 - MOST :], recorded]


def _replay(recorded: Recorded, tensors: list[Tensor]) -> UnrollGradient:
    """Return what a recording computes of ``tensors``, in tensors that the next replay does not write to."""
    with torch.no_grad():
        torch._foreach_copy_(recorded.inputs, tensors)
        recorded.replay()
        leaves, structure = tree_flatten(_results(recorded.outputs))
        copies = [torch.empty_like(value) for value in leaves]
        torch._foreach_copy_(copies, leaves)
    return UnrollGradient(*tree_unflatten(copies, structure))


def _try_to_record(
    gradient: Gradient, unroll: Unroll, tensors: list[Tensor], kind: tuple[Any, ...], wanted: UnrollGradient
) -> None:
    """Record a gradient, and keep it if its replay has the bits of ``wanted``."""
    reason = "a replay has other bits"
    try:
        recorded = _record(gradient, unroll, tensors, kind)
        both = zip(*(tree_leaves(_results(one)) for one in (_replay(recorded, tensors), wanted)), strict=True)
        if all(torch.equal(one, other) for one, other in both):
            _keep(recorded)
            return
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
    logging.getLogger(__name__).warning("An outer step is not recorded as a CUDA graph: %s", reason)
    _refused[:] = [*_refused[1 - MOST :], kind]


def can_replay(unroll: Unroll) -> bool:
    """Return whether an unroll is one of heads on a GPU, without mixed pairs or a loss of tensors that nobody names.

    Graphs of whole encoders would keep the memory of their steps for themselves, and their kernels take longer than
    their launches.
    """
    inner, outer = unroll.inner_loss, unroll.outer_loss
    if not (isinstance(inner, partial) and isinstance(outer, partial)) or any(batch.mixup for batch in unroll.batches):
        return False
    if inner.args or outer.args:
        return False
    student = inner.keywords.get("student")
    if student is None or not all(tower.only_head for tower in student.towers()):
        return False
    return all(value.device.type in GPUS for value in tree_leaves(_parts(unroll)) if isinstance(value, Tensor))


def _parts(unroll: Unroll) -> tuple[Any, ...]:
    """Return what of an unroll has tensors."""
    pairs = [batch.pairs for batch in unroll.batches]
    return unroll.start, unroll.data, unroll.learning_rates, pairs, unroll.outer_loss.keywords  # type: ignore[attr-defined]


def _kind(gradient: Gradient, unroll: Unroll) -> tuple[list[Tensor], tuple[Any, ...]]:
    """Return the tensors of an unroll, and all else that decides what is computed with them."""
    leaves, structure = tree_flatten(_parts(unroll))
    tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    others = [None if isinstance(leaf, Tensor) else leaf for leaf in leaves]
    inner: Any = unroll.inner_loss
    functions = gradient, inner.func, inner.keywords, unroll.outer_loss.func  # type: ignore[attr-defined]
    return tensors, (functions, structure, others, [(value.shape, value.dtype) for value in tensors])


def _record(gradient: Gradient, unroll: Unroll, tensors: list[Tensor], kind: tuple[Any, ...]) -> Recorded:
    """Record a gradient on tensors of its own."""
    leaves, structure = tree_flatten(_parts(unroll))
    inputs = iter([value.detach().clone() for value in tensors])
    own = [next(inputs) if isinstance(leaf, Tensor) else leaf for leaf in leaves]
    start, data, learning_rates, pairs, keywords = tree_unflatten(own, structure)
    on_own = replace(
        unroll,
        start=start,
        data=data,
        learning_rates=learning_rates,
        batches=[InnerBatch(rows) for rows in pairs],
        outer_loss=partial(unroll.outer_loss.func, **keywords),  # type: ignore[attr-defined]
    )
    outputs, replay = capture(partial(gradient, on_own))
    return Recorded(kind, [leaf for leaf in own if isinstance(leaf, Tensor)], outputs, replay)


def capture(compute: Callable[[], UnrollGradient]) -> tuple[UnrollGradient, Callable[[], None]]:
    """Record a computation as a CUDA graph; return the tensors that hold its results, and what computes them again."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outputs = compute()
    return outputs, graph.replay


def _results(outputs: UnrollGradient) -> list[dict[str, Tensor]]:
    """Return the parts of a gradient as a tree of tensors."""
    return [outputs.losses, outputs.data, outputs.learning_rates]
