"""The student that a set was distilled with, built from what the set says of its study."""

from engine.build import build_student, build_text_encoder
from engine.config.load import recorded, resolve
from engine.io.paths import Paths
from engine.models.two_tower import TwoTower
from engine.synthetic.set import SyntheticSet


def recorded_student(synthetic: SyntheticSet, paths: Paths) -> TwoTower:
    """Build the student that a set was distilled with, as its metadata name it, for images of the set's size.

    Raises:
        ConfigError: the metadata lack its study, as those of sets by older versions do.
        FileNotFoundError: weights of its encoders are not there.
    """
    study = resolve(recorded(synthetic.metadata, place="the metadata of the set"))
    return build_student(study, paths, encoder=build_text_encoder(study, paths))
