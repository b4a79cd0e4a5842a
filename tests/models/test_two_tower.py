"""Towers as pure functions of named parameters."""

from functools import partial

import torch
from torch import nn

from engine.io.paths import Paths
from engine.losses.contrastive import info_nce
from engine.models.heads import build_head
from engine.models.two_tower import Tower, make_tower
from engine.rng import forked, named_generator
from tests.toys import PIXELS, TEXT_FEATURES, tiny_student


def encoder_with_batch_norm() -> nn.Module:
    layers = nn.Sequential(nn.Flatten(), nn.Linear(3 * PIXELS**2, 6), nn.BatchNorm1d(6))
    nn.init.constant_(layers[2].running_mean, 0.25)
    return layers


def tower(*, train: str, pretrained: bool) -> Tower:
    with forked(named_generator(0, "pretraining")):
        loaded = encoder_with_batch_norm()
    return make_tower(
        "image",
        build_encoder=(lambda: loaded) if pretrained else encoder_with_batch_norm,
        build_head=partial(build_head, "linear", features=6, width=5),
        train=train,
        pretrained=pretrained,
    )


def pixels(count: int = 4) -> torch.Tensor:
    return torch.rand(count, 3, PIXELS, PIXELS, generator=named_generator(0, "pixels"))


def test_a_fresh_student_is_a_function_of_the_generator(paths: Paths) -> None:
    student = tiny_student(paths)
    before = torch.get_rng_state()
    first, again, other = (student.init_params(named_generator(seed, "init")) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert first.keys() == again.keys()
    assert all(torch.equal(first[name], again[name]) for name in first)
    drawn = [name for name in first if name.endswith("weight") and not first[name].eq(1).all()]
    assert {"image.encoder.backbone.0.weight", "image.head.weight", "text.head.project.weight"} <= set(drawn)
    assert not any(torch.equal(first[name], other[name]) for name in drawn)


def test_names_begin_with_their_tower_image_first(paths: Paths) -> None:
    names = list(tiny_student(paths).init_params(named_generator(0, "init")))
    towers = [name.partition(".")[0] for name in names]
    assert set(towers) == {"image", "text"}
    assert towers == sorted(towers)


def test_a_fresh_student_shares_no_memory_with_the_towers_or_another(paths: Paths) -> None:
    given = tower(train="full", pretrained=True)
    first, second = given.init_params(named_generator(0, "a")), given.init_params(named_generator(0, "a"))
    for value in first.values():
        value.zero_()
    assert all(torch.equal(value, given.init_params(named_generator(0, "a"))[name]) for name, value in second.items())
    assert second["image.encoder.1.weight"].abs().sum() > 0


def test_pretrained_weights_are_where_every_student_starts() -> None:
    given = tower(train="full", pretrained=True)
    first, second = given.init_params(named_generator(0, "a")), given.init_params(named_generator(1, "a"))
    assert torch.equal(first["image.encoder.1.weight"], second["image.encoder.1.weight"])
    assert not torch.equal(first["image.head.weight"], second["image.head.weight"])


def test_without_pretraining_every_student_draws_its_own_encoder() -> None:
    given = tower(train="full", pretrained=False)
    first, second = given.init_params(named_generator(0, "a")), given.init_params(named_generator(1, "a"))
    assert not torch.equal(first["image.encoder.1.weight"], second["image.encoder.1.weight"])


def test_a_frozen_encoder_is_prepared_and_has_no_parameters() -> None:
    given = tower(train="frozen", pretrained=True)
    assert list(given.init_params(named_generator(0, "a"))) == ["image.head.weight", "image.head.bias"]
    assert given.prepare(pixels()).shape == (4, 6)


def test_a_frozen_encoder_without_pretraining_is_the_same_wherever_it_is_built() -> None:
    before = torch.get_rng_state()
    first, second = (tower(train="frozen", pretrained=False) for _ in range(2))
    assert torch.equal(first.prepare(pixels()), second.prepare(pixels()))
    assert not torch.equal(first.prepare(pixels()), tower(train="frozen", pretrained=True).prepare(pixels()))
    assert torch.equal(torch.get_rng_state(), before)


def test_an_unfrozen_encoder_prepares_nothing() -> None:
    images = pixels()
    assert torch.equal(tower(train="full", pretrained=True).prepare(images), images)


def test_frozen_and_full_compute_the_same_embedding() -> None:
    frozen, full = (tower(train=train, pretrained=True) for train in ("frozen", "full"))
    params = full.init_params(named_generator(0, "a"))
    head_only = {name: value for name, value in params.items() if name.startswith("image.head")}
    ours = frozen.apply(head_only, frozen.prepare(pixels()))
    torch.testing.assert_close(ours, full.apply(params, full.prepare(pixels())))


def test_batch_norm_uses_and_keeps_its_statistics() -> None:
    given = tower(train="full", pretrained=True)
    params = given.init_params(named_generator(0, "a"))
    together = given.apply(params, pixels())
    torch.testing.assert_close(given.apply(params, pixels()[:1]), together[:1])
    assert given.trained.encoder[2].running_mean.eq(0.25).all()


def test_a_tower_reads_the_parameters_it_is_given_and_only_its_own(paths: Paths) -> None:
    student = tiny_student(paths)
    params = student.init_params(named_generator(0, "a"))
    images, texts = pixels(), torch.randn(4, TEXT_FEATURES, generator=named_generator(0, "texts"))
    leaves = {name: value.clone().requires_grad_() for name, value in params.items()}
    student.image.apply(leaves, images).square().sum().backward()
    assert {name for name, value in leaves.items() if value.grad is not None} == {
        n for n in params if n[:6] == "image."
    }
    moved = {name: value + 0.1 if name == "text.head.norm.bias" else value for name, value in params.items()}
    assert torch.equal(student.image.apply(moved, images), student.image.apply(params, images))
    torch.testing.assert_close(student.text.apply(moved, texts), student.text.apply(params, texts) + 0.1)
    assert not any(value.requires_grad for tower in student.towers() for value in tower.trained.parameters())


def test_the_loss_is_the_contrast_at_the_students_temperature(paths: Paths) -> None:
    student = tiny_student(paths)
    params = student.init_params(named_generator(0, "a"))
    images, texts = pixels(), torch.randn(4, TEXT_FEATURES, generator=named_generator(0, "texts"))
    embedded = student.image.apply(params, images), student.text.apply(params, texts)
    assert torch.equal(student.loss(params, images, texts), info_nce(*embedded, temperature=0.5))
    assert student.loss(params, images, texts) != info_nce(*embedded, temperature=0.07)


def test_a_frozen_tower_without_a_head_has_no_parameters() -> None:
    tower = make_tower("text", build_encoder=nn.Identity, build_head=nn.Identity, train="frozen", pretrained=True)
    assert tower.init_params(named_generator(0, "a")) == {}
    texts = torch.randn(2, 3, generator=named_generator(0, "texts"))
    assert torch.equal(tower.apply({}, tower.prepare(texts)), texts)
