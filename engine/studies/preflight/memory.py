"""How many bytes an outer step of a study needs: the step itself, taken on tensors that have shapes but no numbers."""

import math
import weakref
from collections.abc import Hashable, Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import replace
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.fx.experimental import _config as masks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from engine import build
from engine.distill import Distillation
from engine.methods import Method
from engine.models.two_tower import Tower, TwoTower
from engine.studies.job import Job
from engine.studies.preflight.costs import pairs_a_step
from engine.studies.preflight.dummy_inputs import TEXTS, DummyInputs
from engine.studies.preflight.requirements import heaviest, snapshot_bytes

META = torch.device("meta")
FEW = 8
"""Inner steps in which what grows with them has become the most of what lives."""

MANY = 4096
"""More than the tokens of any text, and not too many to be counted to."""


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all tensors that the operations inside of the block read and make, for as long as they live.

    Tensors that share a storage count once. What an operation allocates and frees within itself is not seen.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live = 0
        self.peak = 0
        self._known: set[int] = set()

    def watch(self, tensors: Iterable[Tensor]) -> None:
        """Count ``tensors`` from now on."""
        for tensor in tensors:
            storage = tensor.untyped_storage()
            key = id(storage)
            if key not in self._known:
                self._known.add(key)
                self.live += storage.nbytes()
                weakref.finalize(storage, self._forget, key, storage.nbytes())
        self.peak = max(self.peak, self.live)

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.live -= size

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.watch(_tensors((args, kwargs)))
        result = func(*args, **(kwargs or {}))
        self.watch(_tensors(result))
        return result


class ShapesAlone(TorchDispatchMode):
    """Lets tensors of the device ``meta``, which have shapes but no numbers, meet real ones: the result has none.

    A count that is asked for is ``MANY``, any other number is 1, and a mask holds everywhere: what is cut to a number,
    as texts are to the longest of a batch, stays whole. Torch takes long to find out the shape of a result, and the
    steps of an unroll repeat each other, so that the shapes are kept.
    """

    def __init__(self) -> None:
        super().__init__()
        self._layouts: dict[Hashable, Any] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if not any(tensor.is_meta for tensor in _tensors((args, kwargs))):
            return func(*args, **kwargs)
        if func is torch.ops.aten._local_scalar_dense.default:
            return MANY if args[0].dtype == torch.int64 else 1.0
        key = (func, _signature((args, kwargs)))
        if key in self._layouts:
            return _made(self._layouts[key])
        args, kwargs = tree_map_only(Tensor, lambda tensor: tensor.to(META), (args, kwargs))
        with cast(Any, masks).patch(meta_nonzero_assume_all_nonzero=True):
            result = func(*args, **kwargs)
        if _makes_new(func):
            self._layouts[key] = _layout(result)
        return result


@cache
def _makes_new(func: Any) -> bool:
    """Whether what an operation returns shares no storage with what it was given."""
    schema = func._schema
    shared = schema.is_mutable or any(value.alias_info is not None for value in schema.returns)
    return not shared and "unsafe" not in schema.name  # which share without saying so


def _signature(values: Any) -> Hashable:
    """Return what of an operation's arguments decides about the shapes of its results."""
    if isinstance(values, Tensor):
        return values.shape, values.stride(), values.dtype
    if isinstance(values, list | tuple):
        return tuple(_signature(value) for value in values)
    if isinstance(values, Mapping):
        return tuple((name, _signature(value)) for name, value in values.items())
    return type(values), values


def _layout(result: Any) -> Any:
    """Return the shapes, strides and types of what an operation returned: a tensor, or several, or none."""
    if isinstance(result, Tensor):
        return torch.empty_strided, result.shape, result.stride(), result.dtype
    return tuple, [_layout(value) for value in result] if isinstance(result, list | tuple) else result


def _made(layout: Any) -> Any:
    """Return tensors with a layout, without numbers."""
    if layout[0] is torch.empty_strided:
        return torch.empty_strided(layout[1], layout[2], dtype=layout[3], device=META)
    return tuple(_made(value) for value in layout[1]) if isinstance(layout[1], list) else layout[1]


def _tensors(values: Any) -> Iterator[Tensor]:
    """Yield the tensors in nested lists, tuples and mappings."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, list | tuple):
        for value in values:
            yield from _tensors(value)
    elif isinstance(values, Mapping):
        yield from _tensors(list(values.values()))


def trial_bytes(job: Job, dummy: DummyInputs) -> int | None:
    """Return the ``step_bytes`` of a study, of a search those of the trial that needs most.

    Raises:
        ValueError: the method learns something that the study has no rate for.
    """
    return step_bytes(replace(dummy, study=heaviest(job.study)) if job.samples > 1 else dummy)


def step_bytes(dummy: DummyInputs) -> int | None:
    """Return the most bytes that live at one moment of an outer step, of the student, the set and its optimiser too.

    The step has all of its pairs. Of many inner steps ``FEW`` are taken, or as many as use each pair once, and then one
    more: what that one adds, a copy of the parameters at least, is added for each of the others. Returns None where
    the method or an encoder needs numbers that these tensors do not have.

    Raises:
        ValueError: the method learns something that the study has no rate for.
    """
    method = build.method(dummy.study)
    weightless = replace(dummy, student=deepcopy(dummy.student).to(META))
    steps = int(getattr(method, "inner_steps", 1))
    few = max(FEW, math.ceil(method.num_pairs / pairs_a_step(method)))
    shapes = ShapesAlone()
    try:
        if steps <= 2 * few + 1:  # which is what the two below take together
            return _peak(weightless, method, shapes)
        shorter = (replace(cast(Any, method), inner_steps=number) for number in (few, few + 1))
        first, second = (_peak(weightless, one, shapes) for one in shorter)
    except (RuntimeError, TypeError):  # what torch raises where there are no numbers
        return None
    return first + (steps - few) * max(second - first, snapshot_bytes(weightless.student))


def _peak(weightless: DummyInputs, method: Method, shapes: ShapesAlone) -> int:
    """Return the most bytes that live at one moment of a step without numbers."""
    with shapes:
        return peak_bytes(_weightless_run(weightless, method), weightless.student)


def peak_bytes(run: Distillation, student: TwoTower) -> int:
    """Take one outer step, with an optimiser that has stepped before, and return the most bytes that live in it."""
    with LiveBytes() as live:
        live.watch(value for tower in student.towers() for value in _weights(tower))
        for entry in run.optimiser.param_groups:
            for parameter in entry["params"]:
                parameter.grad = torch.zeros_like(parameter)
        run.optimiser.step()
        live.watch(run.state.state_dict().values())
        run.run(1)
    return live.peak


def _weights(tower: Tower) -> Iterator[Tensor]:
    yield from tower.frozen.state_dict().values()
    yield from tower.trained.state_dict().values()


def _weightless_run(weightless: DummyInputs, method: Method) -> Distillation:
    """Return a run whose tensors have no numbers.

    Its shapes are read off two states of few pairs, so that the set is nowhere in memory.
    """
    pairs = weightless.pairs(max(TEXTS, int(getattr(method, "real_batch", 0))))
    sources = weightless.sources(method, weightless.params(), pairs)
    two, three = (weightless.state(replace(cast(Any, method), num_pairs=number), sources) for number in (2, 3))
    _grow(two, three, method.num_pairs)
    return weightless.distillation(method, two, sources)


def _grow(two: nn.Module, three: nn.Module, pairs: int) -> None:
    """Give each tensor of ``two``, which has two pairs, its shape at ``pairs``; ``three`` has one pair more."""
    longer = three.state_dict()
    for name, value in two.state_dict(keep_vars=True).items():
        shape = [a + (b - a) * (pairs - 2) for a, b in zip(value.shape, longer[name].shape, strict=True)]
        grown = torch.empty(shape, dtype=value.dtype, device=META)
        owner, _, own = name.rpartition(".")
        learned = isinstance(value, nn.Parameter)
        setattr(two.get_submodule(owner), own, nn.Parameter(grown, value.requires_grad) if learned else grown)
