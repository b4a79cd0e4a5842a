"""Any layout of photos and captions: the folder is looked at, and read by the data set that it fits."""

from dataclasses import dataclass
from typing import Any

from engine.data.folder import Missing, SamePhoto, find_root
from engine.data.locate import Links
from engine.data.pairs import PairDataset, Size
from engine.data.recognise import Recognised, data_set, recognise
from engine.io.paths import Paths
from engine.ranges import Count


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """Photos with captions in whatever layout ``root`` has; a study keeps the name of the one that it was.

    Args:
        root: folder of the data set, below ``paths.data`` unless absolute.
        captions: the file of captions, below ``root`` unless absolute; None: the one in ``root``.
        image_px: side of the decoded images.
        missing, same_photo: which photos are refused: as in ``engine.data.folder``.
        links: which symbolic links are followed: as in ``engine.data.locate``.
    """

    root: str
    captions: str | None = None
    image_px: Count = 128
    missing: Missing = "leave_out"
    same_photo: SamePhoto = "refuse"
    links: Links = "inside"

    def load(self, paths: Paths) -> dict[str, PairDataset]:
        """Read train, val and test; raises as ``recognise`` and the data set that is chosen do."""
        loaded: dict[str, PairDataset] = self._chosen(paths).load(paths)
        return loaded

    def sizes(self, paths: Paths) -> dict[str, Size]:
        """Return the size of each split; raises as ``recognise`` does."""
        counted: dict[str, Size] = self._chosen(paths).sizes(paths)
        return counted

    def recognised(self, paths: Paths) -> Recognised:
        """Return what the folder is.

        Raises:
            FileNotFoundError: the folder or photos are missing.
            ValueError: it is no known layout, or several, or cannot be read.
        """
        root = find_root(paths, self.root)
        captions = None if self.captions is None else root / self.captions
        return recognise(root, captions, missing=self.missing, same_photo=self.same_photo, links=self.links)

    def options(self, found: Recognised) -> dict[str, Any]:
        """Return the options of the data set that was recognised, with those given here."""
        shared = {key: getattr(self, key) for key in ("root", "image_px", "same_photo", "links")}
        return {**shared, **found.settings}

    def _chosen(self, paths: Paths) -> Any:
        found = self.recognised(paths)
        return data_set(found.name)(**self.options(found))
