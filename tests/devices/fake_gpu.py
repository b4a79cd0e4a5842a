"""A simulated GPU: a device of its own whose tensors are computed on the CPU, under CUDA's rules of placement.

``with fake_gpu() as (device, ledger)`` registers torch's PrivateUse1 device from Python. Its tensors wrap CPU tensors,
so numbers are those of the CPU, and ``.item()`` and autograd work, which ``FakeTensorMode`` on "cuda" cannot.
What CUDA refuses raises ``DeviceMismatch``: a CPU tensor that meets one of the GPU (but for indices and numbers without
dimensions), and a CPU generator that draws on the GPU. The ledger counts, with the line of the engine, what costs time
or bits on a GPU. Memory, speed, TF32 and kernels that CUDA lacks are not simulated.
"""

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "fakegpu"
CPU = torch.device("cpu")

WAITS = {
    "_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive", "equal",
    "is_nonzero", "bincount", "repeat_interleave",
}  # fmt: skip
"""Operations whose value, or the shape of whose result, is needed on the CPU."""

UNREPEATABLE = {
    "_adaptive_avg_pool2d_backward", "adaptive_max_pool2d_backward", "grid_sampler_2d_backward", "index_add",
    "index_add_", "upsample_bilinear2d_backward", "upsample_bicubic2d_backward", "reflection_pad2d_backward", "put_",
    "scatter_add", "scatter_add_", "replication_pad2d_backward", "_embedding_bag_backward", "histc",
}  # fmt: skip
"""Operations that add in an order that changes from call to call on CUDA, by torch.use_deterministic_algorithms."""

INDEXING = {"index", "_unsafe_index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index_put"}
ACROSS = {"copy_", "_to_copy", "fill_", "lift_fresh", "set_", "is_pinned", "_has_compatible_shallow_copy_type"}
ALLOCATIONS = {"empty", "empty_strided", "empty_like", "new_empty", "new_empty_strided", "detach"}


class DeviceMismatch(RuntimeError):
    """An operation that CUDA refuses."""


@dataclass
class Ledger:
    """Launches of kernels, and the lines of the engine that wait for the GPU, copy to it, or ask for what it lacks."""

    launches: int = 0
    waits: Counter[str] = field(default_factory=Counter)
    copies: Counter[str] = field(default_factory=Counter)
    unrepeatable: Counter[str] = field(default_factory=Counter)
    fused: Counter[str] = field(default_factory=Counter)

    def clear(self) -> None:
        """Forget everything."""
        self.__init__()  # type: ignore[misc]


_ledger = Ledger()


def _line() -> str:
    """Return the innermost line of the engine on the stack; of a backward pass, the line that called it."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        _, inside, path = frame.f_code.co_filename.rpartition("/engine/")
        if inside and "site-packages" not in frame.f_code.co_filename:
            return f"engine/{path}:{frame.f_lineno}"
        frame = frame.f_back
    return "outside of the engine"


class OnGpu(Tensor):
    """A tensor of the simulated GPU; ``held`` is the CPU tensor with its numbers."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> "OnGpu":
        made: OnGpu = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, held.shape, strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype,
            device=torch.device(NAME, 0), requires_grad=False,
        )  # fmt: skip
        made.held = held
        return made

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"OnGpu({self.held!r})"

    def tolist(self) -> Any:
        """Return the numbers, which waits for them."""
        _ledger.waits[f"{_line()} tolist"] += 1
        return self.held.tolist()

    def __deepcopy__(self, memo: dict[int, Any]) -> "OnGpu":
        made = self.detach().clone().requires_grad_(self.requires_grad)
        if getattr(self, "_is_param", False):
            made._is_param = True  # type: ignore[attr-defined]
        memo[id(self)] = made
        return made  # type: ignore[return-value]

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def on_gpu(device: Any) -> bool:
    """Return whether a device argument names the simulated GPU."""
    return device is not None and torch.device(device).type == NAME


def _tensors(values: Any) -> list[Tensor]:
    return [value for value in tree_leaves(values) if isinstance(value, Tensor)]


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Check and count an operation, compute it on the CPU, and wrap what CUDA would leave on the GPU."""
    name, device = func._schema.name.split("::")[-1], kwargs.get("device")
    if not any(isinstance(value, OnGpu) for value in _tensors((args, kwargs))) and not on_gpu(device):
        return func(*args, **kwargs)
    _check(func, name, args, kwargs)
    _count(func, name, args, kwargs)
    inner, options = tree_map_only(OnGpu, lambda value: value.held, (args, kwargs))
    options.pop("pin_memory", None)
    if device is not None:
        options["device"] = CPU if on_gpu(device) else device
    result = func(*inner, **options)
    if name == "copy_" and not isinstance(args[0], OnGpu):
        return args[0]
    if not _tensors(result) or (device is not None and not on_gpu(device)):
        return result
    wrapped = tree_map_only(Tensor, OnGpu, result)
    try:
        return return_and_correct_aliasing(func, args, kwargs, wrapped)
    except (RuntimeError, AssertionError):
        return wrapped


def _check(func: Any, name: str, args: Any, kwargs: dict[str, Any]) -> None:
    """Raise where CUDA would."""
    given = _tensors((args, kwargs))
    here = [value for value in given if not isinstance(value, OnGpu)]
    generator = kwargs.get("generator")
    if generator is not None and generator.device.type != NAME:
        raise DeviceMismatch(f"{_line()}: {func}: a generator of the CPU draws a tensor of the GPU.")
    if not here or len(here) == len(given) or name in ACROSS:
        return
    if name in INDEXING:
        values = _tensors(args[2:])
        wrong = not isinstance(args[0], OnGpu) or any(v.ndim and not isinstance(v, OnGpu) for v in values)
    else:
        numbers = torch.Tag.pointwise in func.tags or name.startswith("_foreach") or name in ("where", "clamp", "lerp")
        wrong = any(value.ndim or not numbers for value in here)
        wrong = wrong or (name.startswith("masked_fill") and not isinstance(args[1], OnGpu))
    if wrong:
        raise DeviceMismatch(f"{_line()}: {func}: a tensor of the CPU meets one of the GPU.")


def _count(func: Any, name: str, args: Any, kwargs: dict[str, Any]) -> None:
    returns = func._schema.returns
    view = bool(returns) and all(r.alias_info is not None and not r.alias_info.is_write for r in returns)
    if not view and name not in ALLOCATIONS:
        _ledger.launches += 1
    if name in WAITS:
        _ledger.waits[f"{_line()} {name}"] += 1
    if name in INDEXING:
        indices = [value for value in args[1] if isinstance(value, Tensor)]
        _ledger.waits.update([f"{_line()} mask"] * any(index.dtype == torch.bool for index in indices))
        _ledger.copies.update([_line()] * sum(index.ndim > 0 and not isinstance(index, OnGpu) for index in indices))
    if name == "copy_":
        _moved(isinstance(args[1], OnGpu), isinstance(args[0], OnGpu))
    if name == "_to_copy" and kwargs.get("device") is not None and torch.device(kwargs["device"]).type != "meta":
        _moved(isinstance(args[0], OnGpu), on_gpu(kwargs["device"]))
    if name in UNREPEATABLE and not (name == "_adaptive_avg_pool2d_backward" and _divides(*args[:2])):
        _ledger.unrepeatable[f"{_line()} {name}"] += 1


def _moved(was_there: bool, will_be: bool) -> None:
    if was_there and not will_be:
        _ledger.waits[f"{_line()} copy back"] += 1
    elif will_be and not was_there:
        _ledger.copies[_line()] += 1


def _divides(gradient: Tensor, inputs: Tensor) -> bool:
    """Return whether the cells of a pooling do not overlap, so that CUDA adds each in one order."""
    return not any(whole % part for whole, part in zip(inputs.shape[-2:], gradient.shape[-2:], strict=True))


class _Functions(TorchFunctionMode):
    """Notes attention that CUDA would fuse although a gradient is needed: the fused one has no second derivative.

    ``torch.tensor`` is made on the CPU first, since torch before 2.15 makes none on a device of Python.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.tensor and on_gpu((kwargs or {}).get("device")):
            return func(*args, **{**kwargs, "device": CPU}).to(kwargs["device"])
        if getattr(func, "__name__", "") == "scaled_dot_product_attention" and torch.is_grad_enabled():
            cuda, given = torch.backends.cuda, _tensors((args, kwargs))
            fusing = cuda.flash_sdp_enabled() or cuda.mem_efficient_sdp_enabled() or cuda.cudnn_sdp_enabled()
            if fusing and any(isinstance(value, OnGpu) and value.requires_grad for value in given):
                _ledger.fused[_line()] += 1
        return func(*args, **(kwargs or {}))


class _Factories(TorchDispatchMode):
    """Brings operations here that make tensors of the GPU out of none."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


ROUNDED = ("conv1d", "conv2d", "conv3d", "linear", "matmul", "mm", "addmm", "bmm", "baddbmm", "einsum")
"""Operations, of those that torch's autocast computes in few bits, that encoders call."""
_aten, _others = torch.library.Library("aten", "IMPL"), torch.library.Library("_", "IMPL")


def _register() -> None:
    """Register the device, and for ``ROUNDED`` what autocast does on it: torch leaves both to the device."""
    _setup_privateuseone_for_python_backend(NAME)
    module = getattr(torch, NAME)
    module.get_amp_supported_dtype = lambda: [torch.bfloat16, torch.float16]
    key = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1)

    def rounded(func: Any) -> Any:
        def run(*args: Any, **kwargs: Any) -> Any:
            kind = torch.get_autocast_dtype(NAME)
            with torch._C._ExcludeDispatchKeyGuard(key):
                few = tree_map_only(Tensor, lambda value: value.to(kind) if value.is_floating_point() else value, args)
                return func(*few, **kwargs)

        return run

    _others.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
    for name in ROUNDED:
        _aten.impl(name, rounded(getattr(torch.ops.aten, name)), "AutocastPrivateUse1")


@contextmanager
def fake_gpu() -> Iterator[tuple[torch.device, Ledger]]:
    """Yield the simulated GPU and what is counted while the block runs."""
    global _ledger
    if torch._C._get_privateuse1_backend_name() != NAME:
        _register()
    before, _ledger = _ledger, Ledger()
    try:
        with torch.autograd.set_multithreading_enabled(False), _Functions(), _Factories():
            yield torch.device(NAME, 0), _ledger
    finally:
        _ledger = before
