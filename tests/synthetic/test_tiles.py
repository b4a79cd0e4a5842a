"""Images that are mosaics: tiles, sets that have them, and students that see one tile at a time."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from engine.data.pairs import PairDataset
from engine.evaluation.protocol import prepare_set
from engine.evaluation.student import StudentRecipe, TrainingSet, fresh_student
from engine.evaluation.together import fresh_students
from engine.io.files import read_json, write_json
from engine.io.paths import Paths
from engine.rng import named_generator
from engine.synthetic.folder import DESCRIPTION, write_folder
from engine.synthetic.initialisation import Init, SeedPairs, Start, initial_tensors
from engine.synthetic.set import SyntheticSet, load_set
from engine.synthetic.tiles import drawn_tiles, mosaics, tiles_of
from tests.toys import tiny_student

CPU = torch.device("cpu")
RATES = {"image": 0.1, "text": 0.1}


def images(count: int = 3, side: int = 8) -> torch.Tensor:
    return torch.rand(count, 3, side, side, generator=named_generator(0, "images"))


def tiled(**given: object) -> SyntheticSet:
    return SyntheticSet(images(), torch.rand(3, 8), {"image": 0.1, "text": 0.2}, tiles=2, **given)  # type: ignore[arg-type]


def test_tiles_are_cut_row_by_row_and_enlarged_as_interpolate_does() -> None:
    whole = images()
    found = tiles_of(whole, 2)
    for number, (rows, columns) in enumerate(
        (s, t) for s in (slice(0, 4), slice(4, 8)) for t in (slice(0, 4), slice(4, 8))
    ):
        expected = interpolate(whole[:, :, rows, columns], size=(8, 8), mode="bicubic")
        assert torch.allclose(found[:, number], expected, atol=1e-6)


def test_one_tile_is_the_image_itself() -> None:
    whole = images()
    assert torch.equal(tiles_of(whole, 1)[:, 0], whole)


def test_a_drawn_tile_is_one_of_the_image_and_has_its_gradient() -> None:
    whole = images(40).requires_grad_()
    drawn = drawn_tiles(whole, 2, named_generator(0, "draw"))
    distance = (tiles_of(whole, 2) - drawn[:, None]).abs().amax(dim=(2, 3, 4))
    assert distance.amin(dim=1).max() < 1e-6
    assert distance.argmin(dim=1).unique().tolist() == [0, 1, 2, 3]
    drawn.sum().backward()  # each value of the tile is worth four in the enlarged one, those of others nothing
    worth = whole.grad.reshape(40, 3, 2, 4, 2, 4).sum(dim=(1, 3, 5)).flatten(1)  # type: ignore[union-attr]
    assert torch.allclose(worth.amax(dim=1), torch.full((40,), 3 * 64.0))
    assert torch.equal(worth.argmax(dim=1), distance.argmin(dim=1))
    assert (worth.gather(1, worth.argsort(dim=1)[:, :3]) == 0).all()


def test_a_mosaic_of_photos_has_each_in_its_tile() -> None:
    photos = torch.arange(8.0).div(8).reshape(2, 4, 1, 1, 1).expand(2, 4, 3, 8, 8)
    assert torch.allclose(tiles_of(mosaics(photos, 2), 2), photos, atol=1e-6)


@pytest.mark.parametrize("start", ["real", "kmeans"])
def test_a_mosaic_starts_from_photos_alike(start: Start) -> None:
    """Eight photos of each of three colours, with features that tell the colours apart."""
    colour = np.arange(24) % 3
    pixels = np.zeros((24, 3, 8, 8), dtype=np.uint8)
    pixels[np.arange(24), colour] = 255
    names = tuple(map(str, range(24)))
    features = torch.eye(3)[colour] + 0.01 * torch.rand(24, 3, generator=named_generator(0, "features"))
    texts = np.eye(3, dtype=np.float32)[colour]
    seeds = SeedPairs(PairDataset(pixels, names, names, np.arange(24)), texts, lambda: features)
    made, said = initial_tensors(Init(image=start, text=start), seeds, 3, named_generator(1, "init"), tiles=2)
    assert made.shape == (3, 3, 8, 8)
    if start == "kmeans":
        assert sorted(said.argmax(dim=1).tolist()) == [0, 1, 2]
    for image, text in zip(made, said, strict=True):
        assert torch.allclose(image.mean(dim=(1, 2)), text, atol=1e-4)
    plain = initial_tensors(Init(image=start, text=start), seeds, 3, named_generator(1, "init"))
    assert torch.equal(plain[1], said)


def test_every_start_of_images_and_texts_makes_mosaics() -> None:
    names = tuple(map(str, range(24)))
    pixels = np.random.default_rng(0).integers(0, 256, (24, 3, 8, 8), dtype=np.uint8)
    features = torch.rand(24, 5, generator=named_generator(0, "features"))
    seeds = SeedPairs(PairDataset(pixels, names, names, np.arange(24)), features.numpy(), lambda: features)
    starts: tuple[Start, ...] = ("real", "kmeans", "noise")
    for image in starts:
        for text in starts:
            drawn = [
                initial_tensors(Init(image=image, text=text), seeds, 5, named_generator(1, "init"), tiles=tiles)
                for tiles in (1, 2)
            ]
            assert [one.shape for one in drawn[1]] == [(5, 3, 8, 8), (5, 5)]
            same = drawn[0][1] if text != "noise" else drawn[1][1]
            assert torch.equal(drawn[1][1], same), (image, text)


def test_more_mosaics_than_photos_are_refused() -> None:
    names = tuple(map(str, range(10)))
    data = PairDataset(np.zeros((10, 3, 8, 8), dtype=np.uint8), names, names, np.arange(10))
    seeds = SeedPairs(data, np.zeros((10, 3), dtype=np.float32), lambda: torch.zeros(10, 3))
    with pytest.raises(ValueError, match=r"method\.tiles is 2: 3 mosaics need 12 photos, but the data has 10\."):
        initial_tensors(Init(image="kmeans"), seeds, 3, named_generator(0, "init"), tiles=2)


def test_a_set_keeps_its_tiles_in_a_file_and_in_a_folder(tmp_path: Path) -> None:
    synthetic = tiled(captions=["a", "b", "c"])
    synthetic.save(tmp_path / "set")
    (tmp_path / "folder").mkdir()
    write_folder(tmp_path / "folder", synthetic)
    assert load_set(tmp_path / "set").tiles == load_set(tmp_path / "folder").tiles == 2
    described = read_json(tmp_path / "folder" / DESCRIPTION)
    for wrong, told in ((3, r"tiles is 3, expected a divisor of \[8, 8\]"), (0, "tiles is 0, expected a whole number")):
        write_json(tmp_path / "folder" / DESCRIPTION, described | {"tiles": wrong})
        with pytest.raises(ValueError, match=told):
            load_set(tmp_path / "folder")


def test_images_that_no_tile_divides_are_refused() -> None:
    with pytest.raises(ValueError, match="tiles is 3, expected a divisor of 8 and 8"):
        SyntheticSet(images(), torch.rand(3, 8), RATES, tiles=3)  # type: ignore[arg-type]


def test_students_see_every_tile_and_nothing_else(paths: Paths) -> None:
    student = tiny_student(paths)
    side = 16
    synthetic = SyntheticSet(images(4, side), torch.rand(4, 6), RATES, tiles=2)  # type: ignore[arg-type]
    training = prepare_set(student, synthetic, CPU)
    assert training.images.shape[:2] == (4, 4)
    for number in range(4):
        alone = student.image.prepare(tiles_of(synthetic.images.detach(), 2)[:, number])
        assert torch.allclose(training.images[:, number], alone, atol=1e-6)


def test_a_student_of_equal_tiles_is_that_of_the_whole_images(paths: Paths) -> None:
    """The draws of tiles come after those of an epoch's order, so that the first epoch has the same batches."""
    student = tiny_student(paths)
    features = student.image.prepare(torch.rand(6, 3, 16, 16))
    texts = torch.rand(6, 6)
    recipe = StudentRecipe(epochs=1, batch_size=6)
    whole = TrainingSet(features, texts)
    same = TrainingSet(features[:, None].expand(-1, 4, *features.shape[1:]), texts, tiles=2)
    other = replace(same, images=same.images * torch.arange(1.0, 5.0).view(1, 4, *[1] * (features.ndim - 1)))

    def trained(training: TrainingSet) -> dict[str, torch.Tensor]:
        return next(
            fresh_student(student, training, learning_rates=RATES, recipe=recipe, seed=0, stream="s")  # type: ignore[arg-type]
        )

    first = trained(whole)
    assert all(torch.equal(value, trained(same)[name]) for name, value in first.items())
    assert not all(torch.equal(value, trained(other)[name]) for name, value in first.items())


def test_students_trained_as_one_draw_the_tiles_of_each_alone(paths: Paths) -> None:
    student = tiny_student(paths)
    generator = named_generator(0, "together")
    features = student.image.prepare(torch.rand(24, 3, 16, 16, generator=generator)).unflatten(0, (6, 4))
    training = TrainingSet(features, torch.rand(6, 6, generator=generator), tiles=2)
    recipe = StudentRecipe(epochs=3, batch_size=4)
    together = next(
        fresh_students(student, training, learning_rates=[RATES] * 2, streams=["a", "b"], recipe=recipe, seed=0)  # type: ignore[list-item]
    )
    for stream, params in zip(("a", "b"), together, strict=True):
        alone = next(
            fresh_student(student, training, learning_rates=RATES, recipe=recipe, seed=0, stream=stream)  # type: ignore[arg-type]
        )
        assert all(torch.allclose(value, alone[name], atol=1e-5) for name, value in params.items())
