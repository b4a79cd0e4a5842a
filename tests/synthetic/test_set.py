"""The synthetic set and its file."""

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from engine.rng import named_generator
from engine.synthetic.set import SyntheticSet, load_set
from engine.synthetic.similarity import SimilarityOptions, make_similarity

METADATA = {"seed": 3, "student": {"image": {"encoder": "convnet", "width": 0.25}}, "note": "ü", "none": None}


def synthetic_set(pairs: int = 4) -> SyntheticSet:
    generator = named_generator(0, "set")
    images = 3 * torch.randn(pairs, 3, 6, 5, generator=generator)  # far outside of [0, 1]
    return SyntheticSet(images, torch.randn(pairs, 7, generator=generator), {"image": 0.1, "text": 0.37}, METADATA)


def save_with(path: Path, *, header: dict[str, str] | None, **changes: torch.Tensor | None) -> None:
    """Write the file of a set with another header and some tensors changed, or left out where None."""
    tensors = {**{name: value.detach() for name, value in synthetic_set().state_dict().items()}, **changes}
    save_file({name: value for name, value in tensors.items() if value is not None}, path, metadata=header)


def test_everything_learned_is_a_parameter_and_a_copy() -> None:
    images, texts = torch.rand(2, 3, 4, 4), torch.rand(2, 5)
    synthetic = SyntheticSet(images, texts, {"image": 0.1, "text": 0.2})
    assert {name for name, _ in synthetic.named_parameters()} == {
        "images",
        "texts",
        "log_rates.image",
        "log_rates.text",
    }
    assert all(isinstance(value, nn.Parameter) and value.requires_grad for value in synthetic.parameters())
    with torch.no_grad():
        synthetic.images.zero_()
        synthetic.texts.zero_()
    assert images.abs().sum() > 0
    assert texts.abs().sum() > 0
    assert len(synthetic) == 2


def test_rates_are_kept_as_natural_logarithms_each_of_its_modality() -> None:
    synthetic = synthetic_set()
    assert synthetic.log_rates["image"].item() == pytest.approx(math.log(0.1))
    assert synthetic.learning_rates() == pytest.approx({"image": 0.1, "text": 0.37})
    with torch.no_grad():
        synthetic.log_rates["text"].add_(math.log(2))
    assert synthetic.learning_rates() == pytest.approx({"image": 0.1, "text": 0.74})


def test_a_file_gives_the_set_back_bitwise(tmp_path: Path) -> None:
    synthetic = synthetic_set()
    synthetic.save(tmp_path / "set.safetensors")
    again = load_set(tmp_path / "set.safetensors")
    assert again.state_dict().keys() == synthetic.state_dict().keys()
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in synthetic.state_dict().items())
    assert again.learning_rates() == synthetic.learning_rates()
    assert again.metadata == METADATA
    assert all(value.requires_grad for value in again.parameters())


@pytest.mark.parametrize("kind", ["low_rank", "full"])
def test_similarity_and_loss_come_back_too(kind: str, tmp_path: Path) -> None:
    similarity = make_similarity(SimilarityOptions(kind=kind, rank=2), 4, named_generator(0, "similarity"))  # type: ignore[arg-type]
    plain = synthetic_set()
    synthetic = SyntheticSet(plain.images, plain.texts, plain.learning_rates(), similarity=similarity, loss="wbce")
    with torch.no_grad():
        for value in similarity.parameters():
            value.add_(0.5)
    synthetic.save(tmp_path / "set.safetensors")
    again = load_set(tmp_path / "set.safetensors")
    assert again.loss == "wbce"
    assert torch.equal(again.similarity(), synthetic.similarity())
    assert (
        synthetic.size_bytes() == again.size_bytes() == plain.size_bytes() + 4 * (4 * 5 if kind == "low_rank" else 16)
    )


def test_a_similarity_of_other_pairs_is_named(tmp_path: Path) -> None:
    header = {"format_version": "1", "loss": "wbce"}
    save_with(tmp_path / "set.safetensors", header=header, **{"similarity.matrix": torch.zeros(3)})
    with pytest.raises(
        ValueError, match=r"set\.safetensors: similarity\.matrix is \[3\] of torch\.float32, expected .* 2 "
    ):
        load_set(tmp_path / "set.safetensors")
    save_with(tmp_path / "set.safetensors", header=header, **{"similarity.matrix": torch.eye(3)})
    with pytest.raises(
        ValueError, match=r"set\.safetensors: similarity\.matrix has the shape \[3, 3\], expected \[4, 4\]\."
    ):
        load_set(tmp_path / "set.safetensors")


def spoiled(name: str, value: float) -> torch.Tensor:
    """Return a tensor of the set with its first number replaced."""
    changed = synthetic_set().state_dict()[name].clone()
    changed.view(-1)[0] = value
    return changed


LOW_RANK = {
    "similarity.diagonal": torch.ones(4),
    "similarity.left": torch.ones(4, 2),
    "similarity.scale": torch.ones(()),
}
NOT_FINITE = [
    ({"images": spoiled("images", math.nan)}, r"images\[0, 0, 0, 0\] is nan, expected finite numbers"),
    ({"texts": spoiled("texts", -math.inf)}, r"texts\[0, 0\] is -inf, expected finite numbers"),
    ({"log_rates.text": spoiled("log_rates.text", math.nan)}, r"log_rates\.text is nan, expected finite numbers"),
    ({"log_rates.image": torch.tensor(-800.0)}, r"log_rates\.image is -800, expected the logarithm of a learning rate"),
    ({"log_rates.image": torch.tensor(800.0)}, r"log_rates\.image is 800, expected the logarithm of a learning rate"),
    ({"log_rates.image": torch.ones(1)}, r"log_rates\.image is \[1\] of torch\.float32, expected a tensor .* 0 dim"),
    ({"similarity.matrix": torch.full((4, 4), math.nan)}, r"similarity\.matrix\[0, 0\] is nan"),
    ({**LOW_RANK, "similarity.right": torch.full((4, 2), math.inf)}, r"similarity\.right\[0, 0\] is inf"),
    (
        {**LOW_RANK, "similarity.left": torch.full((4, 2), 3e38), "similarity.right": torch.full((4, 2), 3e38)},
        r"similarity\[0, 0\] is inf",
    ),
    ({"images": torch.zeros(0, 3, 6, 5), "texts": torch.zeros(0, 7)}, r"images has the shape \[0, 3, 6, 5\], expected"),
    ({"images": torch.zeros(4, 1, 6, 5)}, r"images has the shape \[4, 1, 6, 5\], expected \[1 or more, 3, "),
    ({"images": torch.zeros(4, 3, 6, 5, dtype=torch.uint8)}, r"images is \[4, 3, 6, 5\] of torch\.uint8, expected"),
    ({"texts": torch.zeros(3, 7)}, r"texts has the shape \[3, 7\], expected \[4, 1 or more\]"),
    ({"texts": torch.zeros(())}, r"texts is \[\] of torch\.float32, expected a tensor of numbers with 2 dimensions"),
]


@pytest.mark.parametrize(("changes", "found"), NOT_FINITE, ids=range(len(NOT_FINITE)))
def test_a_set_is_finite_and_of_one_shape(changes: dict[str, torch.Tensor], found: str, tmp_path: Path) -> None:
    save_with(tmp_path / "set.safetensors", header={"format_version": "1"}, **changes)
    with pytest.raises(ValueError, match=rf"set\.safetensors: (its tensors make no synthetic set: )?{found}") as caught:
        load_set(tmp_path / "set.safetensors")
    assert str(caught.value).count("\n") == 0


def test_numbers_of_another_precision_become_single(tmp_path: Path) -> None:
    halved = synthetic_set().images.detach().half()
    save_with(tmp_path / "set.safetensors", header={"format_version": "1"}, images=halved)
    assert torch.equal(load_set(tmp_path / "set.safetensors").images, halved.float())


@pytest.mark.parametrize("metadata", ["9" * 5000, "[" * 5000, "[]", '{"student": 3}'])
def test_metadata_of_another_kind_are_named(metadata: str, tmp_path: Path) -> None:
    save_with(tmp_path / "set.safetensors", header={"format_version": "1", "metadata": metadata})
    with pytest.raises(ValueError, match=r"set\.safetensors: expected metadata "):
        load_set(tmp_path / "set.safetensors")


def test_the_size_is_that_of_the_tensors_in_the_file(tmp_path: Path) -> None:
    synthetic = synthetic_set()
    synthetic.save(tmp_path / "set.safetensors")
    stored = sum(value.numel() * value.element_size() for value in load_file(tmp_path / "set.safetensors").values())
    assert synthetic.size_bytes() == stored == 4 * (4 * 3 * 6 * 5 + 4 * 7 + 2)


def test_the_header_is_readable_without_the_library(tmp_path: Path) -> None:
    synthetic_set().save(tmp_path / "set.safetensors")
    with safe_open(tmp_path / "set.safetensors", "pt") as file:
        header = file.metadata()
    assert header["format_version"] == "1"
    assert json.loads(header["metadata"]) == METADATA


def test_metadata_that_is_no_json_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "set.safetensors"
    synthetic = synthetic_set()
    synthetic.save(path)
    before = path.read_bytes()
    synthetic.metadata["where"] = tmp_path
    with pytest.raises(TypeError):
        synthetic.save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"set\.safetensors: there is no synthetic set here\."):
        load_set(tmp_path / "set.safetensors")


@pytest.mark.parametrize("kept", [0, 4, 100, -1])
def test_a_truncated_file_is_named(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "set.safetensors"
    synthetic_set().save(path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"set\.safetensors: expected a synthetic set in safetensors, but "):
        load_set(path)


@pytest.mark.parametrize(
    ("header", "found"),
    [
        (None, "None"),
        ({"other": "1"}, "None"),
        ({"format_version": "2", "metadata": "{}"}, "'2'"),
        ({"format_version": "10", "metadata": "{}"}, "'10'"),
    ],
)
def test_a_later_or_foreign_format_is_named(tmp_path: Path, header: dict[str, str] | None, found: str) -> None:
    save_with(tmp_path / "set.safetensors", header=header)
    with pytest.raises(ValueError, match=rf"expected format_version 1, but the file has {found}\.$"):
        load_set(tmp_path / "set.safetensors")


@pytest.mark.parametrize("changes", [{"texts": None}, {"optimiser": torch.zeros(1)}])
def test_a_file_of_other_tensors_says_what_it_holds(tmp_path: Path, changes: dict[str, torch.Tensor | None]) -> None:
    save_with(tmp_path / "set.safetensors", header={"format_version": "1"}, **changes)
    with pytest.raises(ValueError, match=r"set\.safetensors: expected the tensors \['images', .*, but it holds \["):
        load_set(tmp_path / "set.safetensors")
