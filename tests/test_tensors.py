"""Numbers are checked to be finite, whatever their sum is."""

import pytest
import torch

from engine.tensors import check_finite


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.bool]
)
def test_finite_numbers_pass_although_their_sum_overflows(dtype: torch.dtype) -> None:
    most = True if dtype == torch.bool else (torch.finfo if dtype.is_floating_point else torch.iinfo)(dtype).max
    check_finite("a", torch.full((3, 2), most, dtype=dtype))
    check_finite("a", torch.zeros((0, 2), dtype=dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize(
    ("wrong", "words"), [([float("inf")], "inf"), ([float("nan")], "nan"), ([float("inf"), float("-inf")], "inf")]
)
def test_a_number_that_is_not_finite_is_named_with_its_place(
    dtype: torch.dtype, wrong: list[float], words: str
) -> None:
    value = torch.ones(1000, 3, dtype=dtype)
    value[7 : 7 + len(wrong), 1] = torch.tensor(wrong, dtype=dtype)
    with pytest.raises(ValueError, match=rf"^a\[7, 1\] is {words}, expected finite numbers\.$"):
        check_finite("a", value)
