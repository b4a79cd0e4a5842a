"""The settings that results depend on: the precision of products, what a bitwise resume needs, threads of fits."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from engine.recipes import Precision

AMPERE = (8, 0)
"""The compute capability of the first GPUs with TF32 and bfloat16."""


def set_policy(precision: Precision = "fp32", device: torch.device | None = None) -> None:
    """Let this process compute in ``precision`` on ``device``, and CUDA repeat its convolutions bit by bit.

    TF32 rounds the operands of products to 10 bits, so results depend on the model of the GPU, and scores tie that
    differ in float32; only ``tf32`` allows it. cudnn would otherwise choose kernels by timing them (``benchmark``), so
    a resumed run could take others, and its fastest backward kernels add in an order that changes from call to call.
    Convolutions become somewhat slower. CPUs are not affected. Equal bits are promised for equal precisions, devices,
    versions and threads only.

    Raises:
        ValueError: the GPU is older than ``precision``.
    """
    if precision != "fp32" and device is not None and device.type == "cuda":
        found = torch.cuda.get_device_capability(device)
        if found < AMPERE:
            name, capability = torch.cuda.get_device_name(device), ".".join(map(str, found))
            raise ValueError(
                f"precision is {precision!r}, expected fp32 on {name}, whose compute capability is {capability} and "
                "not 8.0 or more."
            )
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False


def one_thread() -> AbstractContextManager[object]:
    """Return the context in which scikit-learn fits: one thread for NumPy, SciPy and OpenMP, whatever the machine has.

    Their sums depend on the number of threads, by default that of the cores, so that the same study would have other
    embeddings and other first pairs on another machine. Libraries that are loaded inside are not limited.
    """
    return threadpool_limits(1)


def encoding(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """Return the context in which encoders run: torch's autocast to bfloat16 with ``bf16``, else none.

    Parameters, gradients and inputs stay float32; of the operations inside, products and convolutions round their
    operands and results to bfloat16, which has 8 bits. Nothing is cast on the device ``meta``, where sizes are counted.
    """
    if precision != "bf16" or device.type == "meta":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16, cache_enabled=False)


def encoded(encode: Callable[[Tensor], Tensor], inputs: Tensor, precision: Precision) -> Tensor:
    """Return ``encode(inputs)`` in a precision, with ``bf16`` as float32 again; differentiable."""
    with encoding(precision, inputs.device):
        outputs = encode(inputs)
    return outputs.float() if precision == "bf16" else outputs
