"""The settings of torch that a bitwise resume depends on."""

import torch


def set_policy() -> None:
    """Let CUDA use full float32 products and deterministic convolutions, for this process.

    TF32 rounds the operands of products to 10 bits, so results would depend on the model of the GPU, and scores would
    tie that differ in float32. cudnn would otherwise choose kernels by timing them (``benchmark``), so a resumed run
    could take others, and its fastest backward kernels add in an order that changes from call to call. Convolutions
    become somewhat slower. CPUs are not affected. Equal bits are promised for equal devices, versions and threads only.
    """
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
