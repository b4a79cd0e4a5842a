"""Texts of a synthetic set for a student with another text encoder, and its captions as texts."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from engine.build import Setup, fitted_encoder, text_tower
from engine.config.load import assign
from engine.config.schema import Resolved, Study
from engine.config.student import Tower
from engine.determinism import encoding
from engine.io.paths import Paths, without_folders
from engine.models.text import TrainableTextEncoder
from engine.prepare import Place, text_arrays, text_inputs
from engine.synthetic.nearest import nearest_captions
from engine.synthetic.set import SyntheticSet
from engine.synthetic.text_map import map_texts
from engine.tensors import MODALITIES

MAPPED = "its texts are mapped linearly from the text encoder that they were learned with"
NEAREST = "its texts are the nearest real captions, embedded anew"


def reworded(study: Resolved, setup: Setup, paths: Paths, synthetic: SyntheticSet) -> SyntheticSet:
    """Return ``synthetic`` with texts that the study's text encoder can read.

    A synthetic text is a point in the space of the encoder that it was learned with. If the set holds texts for the
    study's encoder, its own or those for a further student, these are taken. If not, texts are mapped linearly into its
    space, by what both encoders make of the training captions; where one of the encoders is trained, or texts were not
    learned (``method.learn.texts`` is false), each text is replaced by the nearest real caption, which in the latter
    case is its own. ``reworded`` in the metadata of the result says which.
    """
    own = synthetic.metadata.get("student", {}).get("text", study.student.text.model_dump())
    learned_with = assign(study, {"student.text": own})
    further = (one.get("text") or own for one in synthetic.metadata.get("students", []))
    for number, text in enumerate([own, *further]):
        if text_space(assign(study, {"student.text": text}).student.text) == text_space(study.student.text):
            return synthetic.with_texts_of(number)
    captions = setup.datasets["train"].captions
    encoder = fitted_encoder(learned_with, paths, setup.datasets)
    before = text_tower(learned_with, encoder)
    arrays = text_arrays(learned_with, Place(paths.cache), encoder, setup.datasets, setup.device)
    real = text_inputs(arrays)["train"]
    nearest = nearest_captions(synthetic.texts, real, prepare=before.prepare)
    words, theirs = [captions[index] for index in nearest.tolist()], setup.pairs["train"].texts
    mapped = (
        texts_are_learned(synthetic.metadata)
        and study.student.text.train == learned_with.student.text.train == "frozen"
    )
    if mapped:
        texts = map_texts(synthetic.texts, real, theirs)
    else:
        texts = setup.prepared_texts(torch.from_numpy(np.array(theirs[nearest.numpy()])))
    return SyntheticSet(
        synthetic.images,
        texts,
        synthetic.learning_rates(),
        synthetic.metadata | {"reworded": MAPPED if mapped else NEAREST},
        similarity=synthetic.similarity,
        loss=synthetic.loss,
        captions=words,
        tiles=synthetic.tiles,
    )


def texts_are_learned(metadata: Mapping[str, Any]) -> bool:
    """Return whether the texts of a set were learned, as far as its metadata say; else they are those of captions."""
    section: Any = metadata
    for key in ("method", "learn", "texts"):
        section = section.get(key, True) if isinstance(section, Mapping) else True
    return section is not False


def learned_for(metadata: Mapping[str, Any], study: Study) -> bool | None:
    """Return whether a set is learned for the student of ``study``; None where its metadata name no student."""
    if not {"image", "text"} <= metadata.get("student", {}).keys():
        return None
    return _towers(metadata["student"]) == _towers(study.student.model_dump(mode="json")) or (
        known_student(metadata, study) > 0
    )


def known_student(metadata: Mapping[str, Any], study: Study) -> int:
    """Return the number of the student of ``study`` among those that a set is learned for: 0 for the own one.

    The number of a student that the metadata do not name is 0, too.
    """
    own = _towers(study.student.model_dump(mode="json"))
    for number, one in enumerate(metadata.get("students", []), start=1):
        given = {name: tower for name, tower in one.items() if tower is not None}
        if _towers({**metadata["student"], **given}) == own:
            return number
    return 0


def _towers(student: Mapping[str, Any]) -> list[Any]:
    """Return the two towers of a student as JSON, without the folders that files lie in."""
    return [without_folders(student[name]) for name in MODALITIES]


def text_space(tower: Tower) -> tuple[object, ...]:
    """Return what determines the space of a tower's synthetic texts."""
    return tower.encoder, tower.train == "frozen", sorted(without_folders(tower.options).items())


def captions_as_texts(study: Study, setup: Setup, paths: Paths, captions: Sequence[str]) -> Tensor:
    """Return captions as texts of the study's student, embedded by its text encoder."""
    encoder = fitted_encoder(study, paths, setup.datasets)
    if study.student.text.train == "frozen":
        with encoding(study.precision, setup.device):
            embedded = encoder.to(setup.device).embed(captions)
        return setup.prepared_texts(embedded)
    tokens = cast(TrainableTextEncoder, encoder).tokens(captions)
    return setup.prepared_texts(torch.from_numpy(tokens[:, : setup.pairs["train"].texts.shape[1]]))
