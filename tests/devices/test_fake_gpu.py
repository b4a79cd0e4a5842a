"""The simulated GPU refuses what CUDA refuses, takes what it takes, counts what costs time, and finds seeded faults."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend

from tests.devices.conftest import DEVICE
from tests.devices.fake_gpu import Ledger, fake_gpu

pytestmark = pytest.mark.skipif(DEVICE == "cuda", reason="a process that has registered it cannot use CUDA any more")

Device = tuple[torch.device, Ledger]
Call = Callable[[Tensor, Tensor, Tensor], Any]
"""An operation of a tensor of the GPU, one of the CPU of the same shape, and an index of the CPU."""


@pytest.fixture
def gpu() -> Iterator[Device]:
    with fake_gpu() as given:
        yield given


REFUSED: dict[str, Call] = {
    "sum": lambda a, c, i: a + c,
    "sum in place": lambda a, c, i: a.add_(c),
    "cat": lambda a, c, i: torch.cat([a, c]),
    "stack of numbers": lambda a, c, i: torch.stack([a.sum(), c.sum()]),
    "product": lambda a, c, i: a @ c.T,
    "index of the GPU": lambda a, c, i: c[i.to(a.device)],
    "values put": lambda a, c, i: a.__setitem__(i, c[:2]),
    "mask to fill": lambda a, c, i: a.masked_fill(c > 0, 0.0),
    "where": lambda a, c, i: torch.where(c > 0, a, a),
    "lerp": lambda a, c, i: torch.lerp(a, c, 0.5),
    "index_select": lambda a, c, i: a.index_select(0, i),
    "embedding": lambda a, c, i: nn.Embedding(5, 2).to(a.device)(i),
    "layer": lambda a, c, i: nn.Linear(3, 2).to(a.device)(c),
    "targets": lambda a, c, i: functional.cross_entropy(a, torch.zeros(4, dtype=torch.long)),
    "generator": lambda a, c, i: torch.randn(3, generator=torch.Generator(), device=a.device),
    "initialiser": lambda a, c, i: nn.init.kaiming_uniform_(a, generator=torch.Generator()),
    "numpy": lambda a, c, i: a.numpy(),
}

TAKEN: dict[str, Call] = {
    "number": lambda a, c, i: a + c.sum(),
    "index of the CPU": lambda a, c, i: a[i],
    "mask of the CPU": lambda a, c, i: a[c[:, 0] > 0],
    "copy": lambda a, c, i: a.copy_(c),
    "numpy of a copy": lambda a, c, i: a.cpu().numpy(),
    "item": lambda a, c, i: a.sum().item(),
    "tolist": lambda a, c, i: a.tolist(),
    "factory": lambda a, c, i: torch.arange(3, device=a.device) + 1,
    "zeros of the CPU": lambda a, c, i: torch.zeros_like(a, device="cpu") + c,
    "deep copy": lambda a, c, i: copy.deepcopy(nn.Linear(3, 2).to(a.device))(a),
    "state of the CPU": lambda a, c, i: nn.Linear(3, 2).to(a.device).load_state_dict(nn.Linear(3, 2).state_dict()),
    "second derivative": lambda a, c, i: second_derivative(a),
}


def second_derivative(values: Tensor) -> Tensor:
    leaf = values.detach().requires_grad_()
    (first,) = torch.autograd.grad(leaf.pow(3).sum(), leaf, create_graph=True)
    return torch.autograd.grad(first.sum(), leaf)[0]


@pytest.mark.parametrize("call", REFUSED.values(), ids=REFUSED.keys())
def test_refuses_what_cuda_refuses(gpu: Device, call: Call) -> None:
    with pytest.raises((RuntimeError, TypeError)):
        call(torch.rand(4, 3).to(gpu[0]), torch.rand(4, 3), torch.tensor([0, 2]))


@pytest.mark.parametrize("call", TAKEN.values(), ids=TAKEN.keys())
def test_takes_what_cuda_takes(gpu: Device, call: Call) -> None:
    call(torch.rand(4, 3).to(gpu[0]), torch.rand(4, 3), torch.tensor([0, 2]))


def test_numbers_and_derivatives_are_those_of_the_cpu(gpu: Device) -> None:
    values = torch.rand(4, 3)
    there = second_derivative(values.to(gpu[0]))
    assert there.device.type == "fakegpu"
    assert torch.equal(there.cpu(), second_derivative(values))


def test_autocast_rounds_products_and_their_gradients_as_on_the_cpu(gpu: Device) -> None:
    found = []
    for device in (torch.device("cpu"), gpu[0]):
        values, weights = (torch.linspace(-1, 1, 12).reshape(shape).to(device) for shape in ((3, 4), (4, 3)))
        values.requires_grad_()
        with torch.autocast(device.type, torch.bfloat16, cache_enabled=False):
            product = values @ weights
        (gradient,) = torch.autograd.grad(product.float().square().sum(), values)
        found.append((product, gradient))
    for here, there in zip(*found, strict=True):
        assert (there.device.type, there.dtype) == ("fakegpu", here.dtype)
        assert torch.equal(here, there.cpu())
    assert found[0][0].dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("call", "waits", "copies"),
    [
        (lambda a, c, i: a.sum().item(), 1, 0),
        (lambda a, c, i: bool((a > 0).any()), 1, 0),
        (lambda a, c, i: a[a > 0], 1, 0),
        (lambda a, c, i: a.cpu(), 1, 0),
        (lambda a, c, i: torch.unique(a), 1, 0),
        (lambda a, c, i: c.to(a.device), 0, 1),
        (lambda a, c, i: a[i], 0, 1),
        (lambda a, c, i: (a + 1).exp().sum(), 0, 0),
    ],
)
def test_counts_waits_and_copies(gpu: Device, call: Call, waits: int, copies: int) -> None:
    device, ledger = gpu
    given, here, index = torch.rand(4, 3).to(device), torch.rand(4, 3), torch.tensor([0, 2])
    ledger.clear()
    call(given, here, index)
    assert (ledger.waits.total(), ledger.copies.total()) == (waits, copies)


def test_counts_launches_without_views(gpu: Device) -> None:
    device, ledger = gpu
    values = torch.rand(4, 3).to(device)
    ledger.clear()
    (values.T.reshape(3, 2, 2)[0] + 1).exp()
    assert ledger.launches == 2


@pytest.mark.parametrize(("grid", "found"), [(2, False), (3, True)])
def test_notes_what_cuda_adds_in_any_order(gpu: Device, grid: int, found: bool) -> None:
    device, ledger = gpu
    pixels = torch.rand(1, 1, 4, 4).to(device).requires_grad_()
    functional.adaptive_avg_pool2d(pixels, grid).sum().backward()
    assert bool(ledger.unrepeatable) == found


@pytest.mark.parametrize(("plain", "gradient"), [(False, True), (True, True), (False, False)])
def test_notes_attention_that_has_no_second_derivative(gpu: Device, plain: bool, gradient: bool) -> None:
    device, ledger = gpu
    query = torch.rand(1, 1, 4, 8).to(device).requires_grad_(gradient)
    with torch.nn.attention.sdpa_kernel([SDPBackend.MATH, *([] if plain else [SDPBackend.FLASH_ATTENTION])]):
        functional.scaled_dot_product_attention(query, query, query)
    assert bool(ledger.fused) == (gradient and not plain)
