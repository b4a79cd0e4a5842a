"""Any layout of photos and captions: the folder is looked at, and read by the data set that it fits."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.data.folder import Missing, Photos, find_root
from engine.data.recognise import Recognised, data_set, recognise
from engine.data.records import Annotation
from engine.io.paths import Paths


@dataclass(frozen=True, kw_only=True)
class DataSet(Photos):
    """Photos with captions in any known layout of ``root``; a study records the data set of that layout by its name.

    Args:
        captions: the file of captions, below ``root`` unless absolute; None: the one in ``root``.
    """

    captions: str | None = None
    missing: Missing = "leave_out"

    def annotation(self, folder: Path) -> Annotation:
        """Return the captions of every split; raises as ``recognised`` and the data set that is chosen do."""
        found = self._recognise(folder)
        annotation: Annotation = data_set(found.name)(**self.options(found)).annotation(folder)
        return annotation

    def recognised(self, paths: Paths) -> Recognised:
        """Return the data set that can read the folder, with its options.

        Raises:
            FileNotFoundError: the folder or photos are missing.
            ValueError: it is no known layout, or several, or cannot be read.
        """
        return self._recognise(find_root(paths, self.root))

    def options(self, found: Recognised) -> dict[str, Any]:
        """Return the options of the data set that was recognised, with those given here."""
        shared = {key: getattr(self, key) for key in ("root", "image_px", "same_photo", "links")}
        return {**shared, **found.settings}

    def _recognise(self, folder: Path) -> Recognised:
        captions = None if self.captions is None else folder / self.captions
        return recognise(folder, captions, missing=self.missing, same_photo=self.same_photo, links=self.links)
