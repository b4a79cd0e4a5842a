"""Memory of an outer step, found by taking the step on tensors that have shapes but no numbers.

``FakeTensorMode`` cannot run these steps, since methods read drawn epochs and distinct pairs as integers; here indices
stay real, and only what meets a tensor of the device ``meta`` loses its numbers. ``MemTracker`` of
``torch.distributed._tools`` cannot count them, since it registers hooks on parameters that require no gradient.
"""

import math
import weakref
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.fx.experimental import _config as masks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from engine import build
from engine.build import Setup
from engine.config.schema import Resolved
from engine.distill import Distillation
from engine.models.two_tower import TwoTower
from engine.studies.job import Job
from engine.studies.preflight.dummy_inputs import dummy_run, with_method
from engine.studies.preflight.requirements import heaviest, pairs_per_step, snapshot_bytes

META = torch.device("meta")
FEW = 8
"""Inner steps after which the memory of a further one no longer depends on how many came before."""

MANY = 4096
"""An integer that is read from a tensor without numbers: more than the tokens of any text."""


class LiveBytes(TorchDispatchMode):
    """Count the bytes of all tensors that operations inside the block read or return, while they live.

    Tensors that share a storage count once. Memory that an operation allocates and frees itself is not seen.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live = 0
        self.peak = 0
        self._known: set[int] = set()

    def watch(self, values: Any) -> None:
        """Count the tensors in nested ``values`` from now on."""
        for tensor in tree_leaves(values):
            if not isinstance(tensor, Tensor):
                continue
            storage = tensor.untyped_storage()
            key, size = id(storage), storage.nbytes()
            if key not in self._known:
                self._known.add(key)
                self.live += size
                weakref.finalize(storage, self._forget, key, size)
        self.peak = max(self.peak, self.live)

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.live -= size

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.watch((args, kwargs))
        result = func(*args, **(kwargs or {}))
        self.watch(result)
        return result


class ShapesOnly(TorchDispatchMode):
    """Run operations on shapes alone where one of their tensors is on the device ``meta``; others run as usual.

    A result stays on ``meta``, even of a copy to another device. An integer that is read from it is ``MANY``, any other
    number 1, so that texts are as long as the longest.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if not any(isinstance(value, Tensor) and value.is_meta for value in tree_leaves((args, kwargs))):
            return func(*args, **kwargs)
        if func is torch.ops.aten._local_scalar_dense.default:
            return MANY if args[0].dtype == torch.int64 else 1.0
        args, kwargs = tree_map_only(Tensor, lambda tensor: tensor.to(META), (args, kwargs))
        return func(*args, **(kwargs | {"device": META} if "device" in kwargs else kwargs))


@dataclass(frozen=True)
class TrialBytes:
    """Peak bytes of an outer step, and bytes of a checkpoint with its best set; None where they are unknown."""

    step: int | None
    checkpoint: int | None


def trial_bytes(job: Job, setups: Sequence[Setup]) -> TrialBytes:
    """Return the bytes of the job's trial: the largest over the values of a search and over the students.

    The step includes the student, the set and its optimiser. It uses all pairs. Of many inner steps few are taken,
    enough to use every pair once, then one more, whose difference (at least a copy of the parameters) counts for each
    of the others.
    """
    study = heaviest(job.study) if job.samples > 1 else job.study
    found = [_bytes_with(study, setup) for setup in setups]
    steps = [one.step for one in found if one.step is not None]
    return TrialBytes(max(steps) if len(steps) == len(found) else None, found[0].checkpoint)


def _bytes_with(study: Resolved, setup: Setup) -> TrialBytes:
    """Return the bytes of a trial whose every step is that of one student."""
    method = build.method(study)
    steps, few = int(getattr(method, "inner_steps", 1)), max(FEW, math.ceil(method.num_pairs / pairs_per_step(method)))
    taken = [steps] if steps <= 2 * few + 1 else [few, few + 1]
    weightless = replace(setup, student=deepcopy(setup.student).to(META), device=META)
    checkpoint = None
    try:
        with masks.patch(meta_nonzero_assume_all_nonzero=True), ShapesOnly():  # type: ignore[attr-defined]
            runs = [_weightless_run(study, weightless, inner_steps=number) for number in taken]
            checkpoint = sum(value.nbytes for value in _saved(runs[0])) + runs[0].synthetic.size_bytes()
            peaks = [peak_bytes(run, weightless.student) for run in runs]
    except (RuntimeError, TypeError):  # an operation that needs numbers
        return TrialBytes(None, checkpoint)
    further = max(peaks[-1] - peaks[0], snapshot_bytes(weightless.student))
    return TrialBytes(peaks[-1] + (steps - taken[-1]) * further, checkpoint)


def peak_bytes(run: Distillation, student: TwoTower) -> int:
    """Return the peak of live bytes in one outer step of a run whose optimiser has stepped before."""
    with LiveBytes() as live:
        live.watch([list(part.state_dict().values()) for t in student.towers() for part in (t.frozen, t.trained)])
        live.watch(_saved(run))
        run.run(1)
    return live.peak


def stepped(run: Distillation) -> Distillation:
    """Give the optimiser of a run its state by a step on gradients of zero, and return the run."""
    for group in run.optimiser.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    run.optimiser.step()
    run.state.zero_grad()
    return run


def _saved(run: Distillation) -> list[Tensor]:
    """Return the tensors that ``Distillation.save`` writes: of the state, a pyramid, the average and the optimiser."""
    moments = [value for state in run.optimiser.state.values() for value in state.values()]
    return [*run.tensors().values(), *(value for value in moments if isinstance(value, Tensor))]


def _weightless_run(study: Resolved, setup: Setup, *, inner_steps: int) -> Distillation:
    """Return a run on ``meta`` with all pairs, extrapolated from runs of two and three pairs: no set is in memory."""
    method = build.method(study)
    changes = {"inner_steps": inner_steps} if hasattr(method, "inner_steps") else {}
    two, three = (dummy_run(with_method(study, num_pairs=number, **changes), setup) for number in (2, 3))
    pairs = ((two.state, three.state), (two.average, three.average), (two.pyramid, three.pyramid))
    for module, longer in pairs:
        if module is None or longer is None:
            continue
        tensors, others = ([*one.parameters(), *one.buffers()] for one in (module, longer))
        for value, other in zip(tensors, others, strict=True):
            shape = [a + (b - a) * (method.num_pairs - 2) for a, b in zip(value.shape, other.shape, strict=True)]
            value.data = torch.empty(shape, dtype=value.dtype, device=META)
    two.start_images()
    two.method = build.method(with_method(study, num_pairs=method.num_pairs, **changes))
    return stepped(two)
