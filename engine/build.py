"""From a resolved configuration to the objects that the library works on; nothing here knows where it runs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from mmap import mmap
from pathlib import Path
from typing import cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from engine.config.load import Study, Tower, assign, components
from engine.data.cache import cached_array, caption_embeddings, caption_tokens
from engine.data.pairs import PairDataset
from engine.data.prepared import PreparedPairs, write_features
from engine.distill import Distillation, outer_optimiser
from engine.evaluation.full_data import pair_embeddings
from engine.evaluation.protocol import Protocol
from engine.evaluation.student import StudentRecipe
from engine.experts.train import ExpertRecipe
from engine.experts.trajectory import ExpertSource
from engine.io.files import digest
from engine.io.paths import Paths
from engine.methods import Method, Sources
from engine.models import two_tower
from engine.models.heads import build_head
from engine.models.image import ImageEncoder
from engine.models.lora import Lora
from engine.models.text import TextEncoder, TrainableTextEncoder
from engine.models.two_tower import TwoTower, make_tower
from engine.rng import named_generator
from engine.synthetic.initialisation import SeedPairs
from engine.synthetic.nearest import nearest_captions
from engine.synthetic.set import SyntheticSet
from engine.tensors import MODALITIES

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Setup:
    """The data and the student of a study, as every expert, trial and evaluation uses them."""

    datasets: Mapping[str, PairDataset]
    pairs: Mapping[str, PreparedPairs]
    student: TwoTower
    device: torch.device

    @torch.no_grad()
    def prepared_texts(self, rows: Tensor) -> Tensor:
        """Return rows of ``PreparedPairs.texts`` as synthetic texts are, on the CPU."""
        return self.student.text.prepare(rows.to(self.device)).cpu()

    def text_shape(self) -> tuple[int, ...]:
        """Return the shape of one synthetic text."""
        return tuple(self.prepared_texts(torch.from_numpy(np.array(self.pairs["train"].texts[:1]))).shape[1:])


def default_device() -> torch.device:
    """Return the GPU that this process may use, or the CPU; the device is never chosen by another process."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def build_setup(study: Study, paths: Paths, device_name: str | None = None) -> Setup:
    """Load the data, build the student, and prepare what its frozen encoders make of the data (cached on disk)."""
    device = torch.device(device_name) if device_name else default_device()
    datasets = load_data(study, paths)
    encoder = build_text_encoder(study, paths)
    encoder.fit(datasets["train"].captions)
    student = build_student(study, paths, encoder=encoder).to(device)
    texts = _text_inputs(study, paths, encoder, datasets)
    pairs = {
        split: PreparedPairs(
            images=_image_inputs(study, paths, student, datasets[split], device),
            texts=texts[split],
            caption_image=datasets[split].caption_image,
        )
        for split in SPLITS
    }
    return Setup(datasets, pairs, student, device)


def load_data(study: Study, paths: Paths) -> dict[str, PairDataset]:
    """Load the three splits of the study's data set."""
    load = components.bind("data", study.data.name, study.data.options)
    datasets: dict[str, PairDataset] = load(paths)
    return datasets


def build_text_encoder(study: Study, paths: Paths) -> TextEncoder:
    """Build the text encoder, not yet fitted where it is of that kind.

    Raises:
        ValueError: it is to be trained, which encoders without token embeddings cannot be.
    """
    tower = study.student.text
    encoder = cast(TextEncoder, components.bind("text", tower.encoder, tower.options)(paths))
    if tower.train != "frozen" and not isinstance(encoder, TrainableTextEncoder):
        raise ValueError(f"student.text.train: {tower.encoder} cannot be trained as {tower.train!r}, expected frozen.")
    return encoder


def build_student(study: Study, paths: Paths, *, encoder: TextEncoder) -> TwoTower:
    """Build the student's two towers, the text tower on ``encoder``.

    Synthetic and real texts alike enter the trained part of the text tower: as embeddings of a frozen encoder, as token
    embeddings where it is trained.
    """
    tower = study.student.image
    build: Callable[[], nn.Module] = partial(components.bind("image", tower.encoder, tower.options), paths)
    probe = cast(ImageEncoder, build())
    width = study.student.embed_dim
    image = make_tower(
        "image",
        build_encoder=build,
        build_head=partial(build_head, tower.head, features=probe.features, width=width),
        train=tower.train,
        pretrained=probe.pretrained,
        lora=_lora(tower),
    )
    return TwoTower(image, _text_tower(study, encoder), study.student.temperature)


def _text_tower(study: Study, encoder: TextEncoder) -> two_tower.Tower:
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
        lora=_lora(tower),
        before=before,
    )


def _lora(tower: Tower) -> Lora | None:
    """Return how a tower's encoder is adapted, if the study says so."""
    return None if tower.lora is None else Lora(**tower.lora.model_dump())


def _text_inputs(
    study: Study, paths: Paths, encoder: TextEncoder, datasets: Mapping[str, PairDataset]
) -> dict[str, np.ndarray]:
    """Return what the text tower takes of each split: cached embeddings, or token ids where its encoder is trained.

    All splits have the tokens of the longest caption among them.
    """
    if study.student.text.train == "frozen":
        return {split: caption_embeddings(encoder, datasets[split].captions, paths.cache) for split in SPLITS}
    trainable = cast(TrainableTextEncoder, encoder)
    ids = {split: caption_tokens(trainable, datasets[split].captions, paths.cache) for split in SPLITS}
    longest = max(int((rows >= 0).any(axis=0).sum()) for rows in ids.values())
    return {split: rows[:, :longest] for split, rows in ids.items()}


def _image_inputs(
    study: Study, paths: Paths, student: TwoTower, dataset: PairDataset, device: torch.device
) -> np.ndarray:
    """Return what the image tower's trained part takes: pixels where its encoder is trained, else cached features."""
    tower = study.student.image
    if tower.train != "frozen":
        return dataset.images
    with torch.no_grad():
        width = student.image.prepare(torch.zeros(1, *dataset.images.shape[1:], device=device)).shape[1]
    return cached_array(
        paths.cache / "features",
        digest("features/1", _encoder_key(tower, student.image), _images_key(dataset)),
        shape=(dataset.num_images, width),
        dtype=np.float32,
        fill=partial(write_features, student.image, dataset, device=device),
    )


def reworded(study: Study, setup: Setup, paths: Paths, synthetic: SyntheticSet) -> SyntheticSet:
    """Return ``synthetic`` with texts of the study's text encoder.

    A synthetic text lives in the space of the encoder that it was learned with. For another one, it becomes the nearest
    real caption, which that encoder embeds; the set's metadata then has ``reworded``. Without another encoder in its
    metadata, the set is returned as it is.
    """
    own = synthetic.metadata.get("student", {}).get("text")
    if own is None or _text_space(Tower.model_validate(own)) == _text_space(study.student.text):
        return synthetic
    learned_with = assign(study, {"student.text": own})
    captions = setup.datasets["train"].captions
    encoder = build_text_encoder(learned_with, paths)
    encoder.fit(captions)
    before = _text_tower(learned_with, encoder)
    real = _text_inputs(learned_with, paths, encoder, setup.datasets)["train"]
    nearest = nearest_captions(synthetic.texts, real, prepare=before.prepare)
    texts = setup.prepared_texts(torch.from_numpy(np.array(setup.pairs["train"].texts[nearest.numpy()])))
    return SyntheticSet(
        synthetic.images,
        texts,
        synthetic.learning_rates(),
        synthetic.metadata | {"reworded": True},
        similarity=synthetic.similarity,
        loss=synthetic.loss,
    )


def _text_space(tower: Tower) -> tuple[object, ...]:
    """Return what makes the space that a tower's synthetic texts live in."""
    return tower.encoder, tower.train == "frozen", sorted(tower.options.items())


def _images_key(dataset: PairDataset) -> str:
    """Return what identifies a split's images: the key of the cached array that they are, else their bytes."""
    images = dataset.images
    if isinstance(images, np.memmap) and isinstance(images.base, mmap) and images.filename is not None:
        return Path(images.filename).stem
    return digest(images.tobytes())


def _encoder_key(tower: Tower, built: two_tower.Tower) -> str:
    """Return what identifies a frozen encoder: its name, its options and the bytes of its weights."""
    state = built.frozen.state_dict()
    return digest(
        tower.encoder, repr(sorted(tower.options.items())), *(v.cpu().numpy().tobytes() for v in state.values())
    )


def expert_recipe(study: Study) -> ExpertRecipe:
    """Return how the study's experts are trained.

    Raises:
        ValueError: pixels are to be augmented that a frozen encoder has turned into features once and for all.
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


def protocol(study: Study) -> Protocol:
    """Return how the study scores a set."""
    given = study.protocol
    recipe = StudentRecipe(
        epochs=given.epochs,
        batch_size=given.batch_size,
        momentum=given.momentum,
        weight_decay=given.weight_decay,
        schedule=given.schedule,
    )
    return Protocol(
        recipe=recipe,
        seeds=given.seeds,
        learning_rates=tuple(given.learning_rates),
        select_epoch=given.select_epoch,
        shared_learning_rate=given.shared_learning_rate,
    )


def method(study: Study) -> Method:
    """Return the study's method with its options.

    Raises:
        ValueError: it works on the features of frozen encoders, and one of the study's is trained.
    """
    options = study.method.options | {"num_pairs": study.method.num_pairs}
    chosen = cast(Method, components.bind("method", study.method.name, options))
    for modality in MODALITIES if "frozen_encoders" in chosen.needs else ():
        train = getattr(study.student, modality).train
        if train != "frozen":
            raise ValueError(
                f"student.{modality}.train is {train!r}, expected frozen: {study.method.name} works on features."
            )
    return chosen


def _joint_features(setup: Setup, experts: ExpertSource, *, epoch: int) -> Float[Tensor, "m f"]:
    """Return both embeddings of every training pair side by side, by the first expert's snapshot of ``epoch``."""
    snapshot = experts.load(min(experts.index()), epoch)
    params = {name: value.to(setup.device) for name, value in snapshot.items()}
    return torch.cat(pair_embeddings(setup.student, params, setup.pairs["train"]), dim=1)


def distillation(study: Study, setup: Setup, experts: ExpertSource) -> Distillation:
    """Return the study's run of distillation before its first outer step."""
    chosen = method(study)
    sources = Sources(student=setup.student, experts=experts, pairs=setup.pairs["train"])
    seeds = SeedPairs(
        setup.datasets["train"],
        setup.pairs["train"].texts,
        partial(_joint_features, setup, experts, epoch=chosen.epochs()[-1]),
        setup.prepared_texts,
    )
    state = chosen.initial_state(seeds, sources, named_generator(study.seed, "init")).to(setup.device)
    state.synthetic.metadata |= {"student": study.student.model_dump(mode="json"), "seed": study.seed}
    optimiser = outer_optimiser(
        chosen.param_groups(state),
        study.optimiser.learning_rates,
        name=study.optimiser.name,
        momentum=study.optimiser.momentum,
    )
    return Distillation(
        chosen, state, optimiser, sources, study.seed, clip=study.optimiser.clip, ema=study.optimiser.ema
    )
