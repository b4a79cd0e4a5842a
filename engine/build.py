"""Building the library's objects (data, student, method, run) from a resolved configuration."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import cache, partial
from typing import Protocol, cast, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from engine.config import components
from engine.config.schema import Study
from engine.data.cache import ShardedArray
from engine.data.folder import Photos
from engine.data.listed import Listed, read_listed
from engine.data.pairs import PairDataset, Size
from engine.data.prepared import PairsOnDemand, PreparedPairs
from engine.data.records import SPLITS
from engine.determinism import set_policy
from engine.distill import Distillation, outer_optimiser
from engine.evaluation import protocol as evaluation
from engine.experts.train import ExpertRecipe
from engine.experts.trajectory import ExpertSource
from engine.io.paths import Paths
from engine.methods import Method, Sources, fix_unlearned
from engine.models import two_tower
from engine.models.distinct_texts import check_known
from engine.models.folding import folded
from engine.models.heads import build_head
from engine.models.image import checked
from engine.models.text import TextEncoder, TrainableTextEncoder
from engine.models.two_tower import TwoTower, make_tower
from engine.prepare import Place, Setup, full_name, image_arrays, is_network, open_listed, text_arrays, text_inputs
from engine.recipes import StudentRecipe
from engine.rng import named_generator
from engine.synthetic.initialisation import SeedPairs, initial_tensors, joint_features
from engine.synthetic.pyramid import learned_as_pyramid
from engine.tensors import MODALITIES
from engine.text_spaces import texts_of_students

RECORDED = ("data", "student", "experts", "method", "optimiser", "protocol", "budget", "seed", "precision")
"""The sections of its study that the metadata of a distilled set hold."""
Initial = tuple[Tensor, Tensor, torch.Generator]
"""Initial images and texts of a run, and the generator that its state is drawn from."""


def default_device() -> torch.device:
    """Return the GPU of this process, or the CPU if it has none."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def build_setup(study: Study, paths: Paths, device_name: str | None = None, place: Place | None = None) -> Setup:
    """Load the data and build the student; what frozen networks make of the data is made when its pairs are read.

    Embeddings of captions by no network, and token ids, are made here. Photos are decoded here, too, or, where
    ``place`` has a folder of shards and they are many, when they are read. All are cached on disk.

    Raises:
        ValueError: photos are broken, or the text encoder does not know captions of val or test or tell them apart.
    """
    device, place = torch.device(device_name) if device_name else default_device(), place or Place(paths.cache)
    set_policy(study.precision, device)
    source, listed = data_set(study), dict[str, Listed]()
    if place.shards is not None and isinstance(source, Photos):
        listed = read_listed(place.shards, place.list_key) if place.list_key else source.listed(paths)
    datasets = open_listed(listed, place) if listed else source.load(paths)
    encoder = fitted_encoder(study, paths, datasets)
    student = build_student(study, paths, encoder=encoder).to(device)
    captions: dict[str, ShardedArray] = {}
    photos = image_arrays(study, place, student, datasets, device)
    if study.student.text.train == "frozen" and is_network(encoder):
        again = cache(lambda: fitted_encoder(study, paths, datasets).to(device))  # in memory where it embeds alone
        captions = text_arrays(study, place, encoder, datasets, device, again)
        for split in (one for one in SPLITS[1:] if not captions[one].here):
            check_known(full_name(study.student.text), split, encoder, datasets[split].captions)

        @cache
        def texts() -> Mapping[str, np.ndarray]:
            rows = text_inputs(captions)
            again.cache_clear()  # of which all is embedded
            return rows

        row = np.zeros((1, encoder.dim), dtype=np.float32)
    else:
        opened = text_inputs(text_arrays(study, place, encoder, datasets, device))
        texts, row = cache(lambda: opened), opened["train"][:1]

    def pairs(split: str) -> PreparedPairs:
        images = photos.get(split, datasets[split].images)
        images = images.open() if isinstance(images, ShardedArray) else images
        return PreparedPairs(images, texts()[split], datasets[split].caption_image)

    outputs = {array.label: array for array in (*captions.values(), *photos.values())}
    return Setup(datasets, PairsOnDemand(SPLITS, pairs), student, device, encoder.key, row, outputs, listed)


def fitted_encoder(study: Study, paths: Paths, datasets: Mapping[str, PairDataset]) -> TextEncoder:
    """Build the text encoder, fitted on the training captions."""
    encoder = build_text_encoder(study, paths)
    encoder.fit(datasets["train"].captions)
    return encoder


@runtime_checkable
class DataSet(Protocol):
    """A data set of ``engine.data.sets`` with its options."""

    def load(self, paths: Paths) -> dict[str, PairDataset]:
        """Return train, val and test."""

    def sizes(self, paths: Paths) -> dict[str, Size]:
        """Return the size of each split without reading an image."""


def data_set(study: Study) -> DataSet:
    """Return the study's data set with its options; nothing is read yet."""
    return cast(DataSet, components.bind("data", study.data.name, study.data.options))


def build_text_encoder(study: Study, paths: Paths) -> TextEncoder:
    """Build the text encoder without fitting it.

    Raises:
        ValueError: it is trained, but has no token embeddings.
    """
    tower = study.student.text
    encoder = cast(TextEncoder, components.bind("text", tower.encoder, tower.options)(paths))
    if tower.train != "frozen" and not isinstance(encoder, TrainableTextEncoder):
        raise ValueError(f"student.text.train: {tower.encoder} cannot be trained as {tower.train!r}, expected frozen.")
    return encoder


def build_student(study: Study, paths: Paths, *, encoder: TextEncoder) -> TwoTower:
    """Build the student's two towers, the text tower on ``encoder``.

    Synthetic and real texts enter the text tower as embeddings if its encoder is frozen, else as token embeddings.
    """
    tower = study.student.image
    build: Callable[[], nn.Module] = partial(components.bind("image", tower.encoder, tower.options), paths)
    pixels = study.data.options["image_px"]
    probe = checked(build(), pixels, name=tower.encoder, options=tower.options)
    width = study.student.embed_dim
    image = make_tower(
        "image",
        build_encoder=(lambda: folded(build(), pixels)) if tower.train == "frozen" else build,
        build_head=partial(build_head, tower.head, features=probe.features, width=width),
        train=tower.train,
        pretrained=probe.pretrained,
        lora=tower.lora,
        precision=study.precision,
    )
    return TwoTower(image, text_tower(study, encoder), study.student.temperature)


def text_tower(study: Study, encoder: TextEncoder) -> two_tower.Tower:
    """Return the text tower: a head on embeddings, or an encoder on token embeddings with its head."""
    tower = study.student.text
    before: nn.Module | None = None
    trained: nn.Module = nn.Identity()
    if tower.train != "frozen":
        before, trained = cast(TrainableTextEncoder, encoder).split()
    return make_tower(
        "text",
        build_encoder=lambda: trained,
        build_head=partial(build_head, tower.head, features=encoder.dim, width=study.student.embed_dim),
        train=tower.train,
        pretrained=True,
        lora=tower.lora,
        before=before,
        precision=study.precision,
    )


def expert_recipe(study: Study) -> ExpertRecipe:
    """Return the training recipe of the study's experts.

    Raises:
        ValueError: images are augmented although the image encoder is frozen, so that experts see features.
    """
    experts = study.experts
    if experts.augmentation != "none" and study.student.image.train == "frozen":
        raise ValueError(
            f"experts.augmentation is {experts.augmentation!r}, expected none, since student.image.train is frozen and "
            "experts see features, not pixels."
        )
    return ExpertRecipe(
        learning_rates={m: getattr(experts.lr, m) for m in MODALITIES},
        batch_size=experts.batch_size,
        weight_decay=experts.weight_decay,
        augmentation=experts.augmentation,
        captions=experts.captions,
    )


def protocol(study: Study) -> evaluation.Protocol:
    """Return the evaluation protocol of the study."""
    given = study.protocol
    return evaluation.Protocol(
        recipe=StudentRecipe(**{field.name: getattr(given, field.name) for field in fields(StudentRecipe)}),
        seeds=given.seeds,
        learning_rates=tuple(given.learning_rates),
        select_epoch=given.select_epoch,
        shared_learning_rate=given.shared_learning_rate,
    )


def method(study: Study) -> Method:
    """Return the study's method with its options.

    Raises:
        ValueError: it needs frozen encoders, and one of the study's encoders is trained.
    """
    options = study.method.options | {"num_pairs": study.method.num_pairs}
    chosen = cast(Method, components.bind("method", study.method.name, options))
    if study.students and "one_student" in chosen.needs:
        raise ValueError(
            f"students has the length {len(study.students)}, expected none: {study.method.name} keeps the parameters "
            "of one student."
        )
    if study.method.views and study.method.views.count > 1 and "one_pass" in chosen.needs:
        raise ValueError(
            f"method.views.count is {study.method.views.count}, expected 1: {study.method.name} trains a student of "
            "its own in each pass."
        )
    if (side := int(study.data.options["image_px"])) % study.method.tiles:
        raise ValueError(f"method.tiles is {study.method.tiles}, expected a divisor of data.image_px, which is {side}.")
    for modality in MODALITIES if "frozen_encoders" in chosen.needs else ():
        train = getattr(study.student, modality).train
        if train != "frozen":
            raise ValueError(
                f"student.{modality}.train is {train!r}, expected frozen: {study.method.name} works on features."
            )
    return chosen


def initial_pairs(study: Study, setup: Setup, experts: ExpertSource) -> Initial:
    """Draw the images and texts that the study's run starts from, with the generator that its state is drawn from."""
    chosen, generator = method(study), named_generator(study.seed, "init")
    seeds = SeedPairs(
        setup.datasets["train"],
        setup.pairs["train"].texts,
        partial(joint_features, setup.student, setup.pairs["train"], experts, epoch=chosen.epochs()[-1]),
        setup.prepared_texts,
    )
    return *initial_tensors(chosen.init, seeds, chosen.num_pairs, generator, tiles=study.method.tiles), generator


def distillation(
    study: Study,
    setup: Setup,
    experts: ExpertSource,
    initial: Initial | None = None,
    *,
    further: Sequence[tuple[Setup, ExpertSource]] = (),
) -> Distillation:
    """Return the study's run before its first outer step, from ``initial`` pairs where given; they are not changed.

    ``further`` has the setup and the experts of each of the study's further students.
    """
    chosen = method(study)
    each = [(setup, experts), *further]
    sources, *others = (Sources(one.student, source, one.pairs["train"]) for one, source in each)
    images, texts, generator = initial or initial_pairs(study, setup, experts)
    state = chosen.initial_state(images, texts, sources, generator.clone_state()).to(setup.device)
    state.synthetic.add_students(*texts_of_students(texts, setup, [one for one, _ in further])).to(setup.device)
    if study.method.bound is not None and "image" not in {entry["name"] for entry in chosen.param_groups(state)}:
        raise ValueError(f"method.bound is {study.method.bound:g}, expected null, since method.learn.images is false.")
    state.synthetic.tiles = study.method.tiles
    state.synthetic.metadata |= study.model_dump(mode="json", include={*RECORDED, *["students"] * bool(study.students)})
    groups, pyramid = chosen.param_groups(state), None
    fix_unlearned(state.synthetic, groups)
    if study.method.images == "pyramid":
        pyramid, groups = learned_as_pyramid(groups, state.synthetic.images, images, finest=study.method.finest)
    given = study.optimiser
    optimiser = outer_optimiser(groups, given.learning_rates, name=given.name, momentum=given.momentum)
    return Distillation(
        chosen,
        state,
        optimiser,
        sources,
        study.seed,
        clip=given.clip,
        ema=given.ema,
        further=others,
        every_student=study.method.students == "summed",
        views=study.method.views,
        pyramid=pyramid,
        bound=study.method.bound,
        schedule=given.schedule,
        steps=study.budget.outer_steps,
    )
