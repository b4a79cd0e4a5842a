"""Weights that are installed as Python packages: the real ones where they are, and files that are not."""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from engine.io.paths import Paths
from engine.models import packages
from engine.models.image import timm as adapter
from engine.models.packages import Package, installed, load_in_order
from engine.models.text import transformers
from engine.models.weights import Source

LITE0 = "tf_efficientnet_lite0"


def file_of(model: str) -> Path:
    """Return a model's weights, or skip the test."""
    path = installed(model)
    if path is None:
        pytest.skip(f"{packages.PACKAGES[model].name} is not installed")
    return path


def test_every_tensor_of_the_package_is_where_timm_has_it(paths: Paths) -> None:
    path = file_of(LITE0)
    encoder = adapter.build(paths, model=LITE0)
    assert encoder.pretrained
    given = {name: v for name, v in torch.load(path, weights_only=True).items() if "num_batches" not in name}
    own = {name: v for name, v in encoder.backbone.state_dict().items() if "num_batches" not in name}
    pairs = list(zip(own.items(), given.items(), strict=False))
    assert len(pairs) == len(given) - 2 == 245
    assert all(torch.equal(mine, theirs) for (_, mine), (_, theirs) in pairs)


def test_the_classifier_of_the_package_is_sure_of_real_photos_behind_our_features(paths: Paths, flickr8k: Path) -> None:
    state = torch.load(file_of(LITE0), weights_only=True)
    encoder = adapter.build(paths, model=LITE0)
    files = sorted(flickr8k.rglob("*.jpg"))[:16]
    photos = [np.asarray(Image.open(file).convert("RGB").resize((224, 224))) for file in files]
    pixels = torch.from_numpy(np.stack(photos)).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        sure = (encoder(pixels) @ state["_fc.weight"].T + state["_fc.bias"]).softmax(dim=1).max(dim=1).values
    assert sure.mean() > 0.15  # of 1,000 classes


def test_the_language_model_of_the_package_is_that_of_the_hub(paths: Paths, weights: Path) -> None:
    file_of("sentence-transformers/all-MiniLM-L6-v2")
    local = Paths(data=paths.data, weights=weights, cache=paths.cache)
    theirs = transformers.build(local, model="sentence-transformers/all-MiniLM-L6-v2")
    assert transformers.build(paths, model="sentence-transformers/all-MiniLM-L6-v2").key == theirs.key


def source(path: Path) -> Source:
    return Source("student.image.model", "small", path)


def saved(path: Path, state: object) -> Path:
    """Save something as packages of weights do."""
    torch.save(state, path)
    return path


@pytest.fixture
def small() -> torch.nn.Module:
    return timm.create_model("test_efficientnet", pretrained=False, num_classes=0)


def renamed(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return random tensors with a model's shapes under other names, and two of a classifier behind them."""
    own = {name: value for name, value in model.state_dict().items() if not name.endswith("num_batches_tracked")}
    state = {
        f"other.{number}.{name.split('.')[-1]}": torch.rand(v.shape) for number, (name, v) in enumerate(own.items())
    }
    return state | {"fc.weight": torch.rand(10, 3), "fc.bias": torch.rand(10)}


def test_tensors_under_other_names_are_loaded_in_their_order(small: torch.nn.Module, tmp_path: Path) -> None:
    state = renamed(small)
    load_in_order(small, source(saved(tmp_path / "net.pth", state)))
    own = [value for name, value in small.state_dict().items() if not name.endswith("num_batches_tracked")]
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(own, state.values(), strict=False))


@pytest.mark.parametrize("damage", ["another shape", "another role", "one fewer", "no tensors", "cut", "code"])
def test_other_tensors_are_refused_and_nothing_is_loaded(small: torch.nn.Module, tmp_path: Path, damage: str) -> None:
    state = renamed(small)
    first, second = list(state)[:2]
    before = {name: value.clone() for name, value in small.state_dict().items()}
    match damage:
        case "another shape":
            state[first] = torch.rand(3)
        case "another role":
            state = {name.replace("weight", "bias") if name == first else name: v for name, v in state.items()}
        case "one fewer":
            del state[second]
    wrong = {"no tensors": [1, 2], "code": Path("x")}.get(damage, state)
    path = saved(tmp_path / "net.pth", wrong)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"net\.pth: expected ") as caught:
        load_in_order(small, source(path))
    assert "\n" not in str(caught.value)
    assert all(torch.equal(value, before[name]) for name, value in small.state_dict().items())


def test_a_model_without_a_package_and_a_package_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    assert installed("resnet18") is None
    assert installed("someone/all-MiniLM-L6-v2") is None
    monkeypatch.setitem(packages.PACKAGES, "other", Package("no-such-package", "1.0", "x"))
    assert installed("other") is None


@pytest.mark.parametrize("version", ["0.0.0", None])
def test_a_package_of_another_version_or_without_its_file(version: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    package = Package("timm", version or timm.__version__, "timm/no_such_file.pth")
    monkeypatch.setitem(packages.PACKAGES, "other", package)
    with pytest.raises(ValueError, match=rf"from the package timm .*, found version {timm.__version__}"):
        installed("other")


def test_a_number_that_is_not_finite_is_named(small: torch.nn.Module, tmp_path: Path) -> None:
    state = renamed(small)
    state[next(iter(state))].view(-1)[0] = float("nan")
    with pytest.raises(ValueError, match=r"'small' cannot be used, .*net\.pth: .* is nan, expected finite numbers"):
        load_in_order(small, source(saved(tmp_path / "net.pth", state)))
