"""Data sets made of a folder of image files and the captions of each image."""

import os.path
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from engine.data.digests import file_digests
from engine.data.images import contents, decode_all, images_key
from engine.data.listed import Listed
from engine.data.locate import Links, leaves_folder, locate_images
from engine.data.pairs import PairDataset, Size
from engine.data.peek import folders_in
from engine.data.records import SPLITS, Annotation, Captions, Record, annotated
from engine.data.splits import Part, divided
from engine.io.files import digest
from engine.io.paths import Paths
from engine.io.sentences import counted, listed, shown
from engine.ranges import Count

SamePhoto = Literal["refuse", "first", "last"]
"""A photo (its bytes, whatever its names) in several splits: refused, or moved with its captions to the first or the
last of train, val and test that has it. With ``last`` test stays whole, so that its recalls compare with others'."""

Missing = Literal["refuse", "leave_out"]
"""Photos that are listed but not there: refused, or left out with their captions."""

PROBED_NAMES = 500
"""Number of images looked up in each candidate folder when the image folder is searched for."""


@dataclass(frozen=True, kw_only=True)
class Photos(ABC):
    """A data set of photos that are resized to squares: the options that all of them share.

    Args:
        root: folder of the data set, below ``paths.data`` unless absolute.
        image_px: side of the decoded images.
        missing: what happens to photos that are listed but absent: as in ``engine.data.folder``.
        same_photo: what happens to photos that several splits share: as in ``engine.data.folder``.
        links: which symbolic links are followed: as in ``engine.data.locate``.
    """

    root: str
    image_px: Count = 128
    missing: Missing = "refuse"
    same_photo: SamePhoto = "refuse"
    links: Links = "inside"

    @abstractmethod
    def annotation(self, folder: Path) -> Annotation:
        """Return the captions of every split; ``folder`` is the data set's root.

        Raises:
            FileNotFoundError: there is no file of captions, or one of several that belong together is missing.
            ValueError: several files may be meant, or one cannot be read: a key is missing or misspelt, or a value does
                not fit; or some photos alone have a split.
        """

    def listed(self, paths: Paths) -> dict[str, Listed]:
        """List the photos and captions of train, val and test; photos are read where their content is not known.

        Raises:
            FileNotFoundError: the root, the file of captions or photos are missing.
            ValueError: captions cannot be read, a split is empty, splits share a photo, or a name or a link leads out
                of the root and the folders that the user named.
        """
        folder = find_root(paths, self.root)
        annotation = self.annotation(folder)
        names = list(dict.fromkeys(name for captions in annotation.splits.values() for name in captions))
        named = [folder, *annotation.named]
        files = locate_images(annotation, names, annotation.images, named=named, links=self.links)
        with file_digests(list(files.values()), cache=paths.cache / "contents", read=contents) as digests:
            content = dict(zip(files, digests, strict=True))
            splits = parted(annotation, content, self.same_photo)
        return {
            split: Listed(
                folder=str(annotation.images),
                names=list(captions),
                captions=list(captions.values()),
                image_px=self.image_px,
                content=digest(*(content[name] for name in captions)),
                key=images_key((content[name] for name in captions), self.image_px),
            )
            for split, captions in splits.items()
        }

    def load(self, paths: Paths) -> dict[str, PairDataset]:
        """Read train, val and test; photos that are not in the cache are decoded.

        Raises:
            FileNotFoundError: as of ``listed``.
            ValueError: as of ``listed``, or photos cannot be decoded.
        """
        splits = self.listed(paths)
        arrays = {split: one.images(split, paths.cache) for split, one in splits.items()}
        decode_all(list(arrays.values()))
        return {split: one.dataset(arrays[split].open()) for split, one in splits.items()}

    def sizes(self, paths: Paths) -> dict[str, Size]:
        """Return the size of each split from names and captions alone.

        Raises:
            FileNotFoundError: the root or the file of captions is missing.
            ValueError: captions cannot be read, a split is empty, or splits share a photo's name.
        """
        return sizes_of(self.annotation(find_root(paths, self.root)), self.same_photo)


@dataclass(frozen=True, kw_only=True)
class DividedPhotos(Photos):
    """A data set of photos that may have no splits, or not all of them.

    Args:
        val_fraction: fraction of the photos that become val where the data have no splits.
        test_fraction: the same for test.
        seed: selects the random split; all captions of a photo are in the same split.
    """

    val_fraction: Part = 0.1
    test_fraction: Part = 0.1
    seed: int = 0


def find_root(paths: Paths, root: str) -> Path:
    """Return the folder ``root`` of a data set, below ``paths.data`` unless absolute.

    Raises:
        FileNotFoundError: it is not a folder.
    """
    folder = paths.data_path(root)
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"data.root: {root!r} is not a folder ({folder}); is VLDD_DATA set?")
    return folder


def find_images(folder: Path, name: str | None, image_names: Sequence[str]) -> Path:
    """Return the folder ``name``; None: the one of ``folder`` and two levels below that holds most of some images.

    It is ``folder`` itself where none of them holds one.

    Raises:
        FileNotFoundError: the folder ``name`` is missing.
    """
    if name is not None:
        if not os.path.isdir(folder / name):
            raise FileNotFoundError(f"data.images: {name!r} is not a folder in {folder}.")
        return folder / name
    probed = [name for name in image_names[:: 1 + len(image_names) // PROBED_NAMES] if not leaves_folder(name)]
    below = folders_in(folder)
    candidates = [folder, *below, *(inner for outer in below for inner in folders_in(outer))]
    hits = [sum(os.path.isfile(candidate / name) for name in probed) for candidate in candidates]
    return candidates[hits.index(max(hits))]


def present(records: Sequence[Record], images: Path, missing: Missing) -> tuple[list[Record], tuple[str, ...]]:
    """Return the records whose photos are in ``images``, and the names of the others, if ``missing`` leaves them out;
    all records where it does not, or where no photo is there.
    """
    if missing == "refuse":
        return list(records), ()
    names = dict.fromkeys(record.image for record in records)
    absent = {name for name in names if not leaves_folder(name) and not os.path.isfile(f"{images}/{name}")}
    there = [record for record in records if record.image not in absent]
    if not absent or not there:
        return list(records), ()
    return there, tuple(sorted(absent))


def arranged(
    options: DividedPhotos,
    path: Path,
    records: Sequence[Record],
    images: Path,
    *,
    left_out: Sequence[str] = (),
    unlisted: Sequence[str] = (),
) -> Annotation:
    """Return the captions of every split from the records of the file ``path``, without blank ones and absent photos,
    which are counted; ``left_out`` and ``unlisted`` are those of ``Annotation``.

    Raises:
        ValueError: a split would be empty.
    """
    blank = [f"{record.image}, {record.where}" for record in records if not record.captions]
    there, absent = present([record for record in records if record.captions], images, options.missing)
    there, words = divided(there, path, val=options.val_fraction, test=options.test_fraction, seed=options.seed)
    return replace(
        annotated(path, there),
        images=images,
        absent=absent,
        unlisted=tuple(unlisted),
        left_out=(*left_out, *[counted(blank, "caption that is blank")] * bool(blank)),
        divided=words,
    )


def sizes_of(annotation: Annotation, same_photo: SamePhoto) -> dict[str, Size]:
    """Count the images and captions of every split, as far as the names of photos tell which are the same.

    Raises:
        ValueError: splits share a name and ``same_photo`` is refuse, or a split loses all photos.
    """
    splits = parted(annotation, {name: name for name in annotation.places}, same_photo)
    return {split: Size(len(captions), sum(map(len, captions.values()))) for split, captions in splits.items()}


def parted(annotation: Annotation, content: Mapping[str, str], same_photo: SamePhoto) -> dict[str, Captions]:
    """Return the captions of every split with each photo in one split; ``content`` has digests of photos by name.

    Raises:
        ValueError: splits share a photo and ``same_photo`` is refuse, or a split loses all photos.
    """
    splits = {split: dict(captions) for split, captions in annotation.splits.items()}
    homes: dict[str, list[tuple[str, str]]] = {}
    for split in SPLITS:
        for name in splits[split]:
            homes.setdefault(content[name], []).append((split, name))
    shared = [places for places in homes.values() if len({split for split, _ in places}) > 1]
    if shared and same_photo == "refuse":
        one_each = (dict(reversed(places)) for places in shared)  # the first name in every split
        found = [" and ".join(f"{shown(place[s])} in {s}" for s in SPLITS if s in place) for place in one_each]
        raise ValueError(
            f"{annotation.path}: photos in more than one split: {len(shared):,} ({listed(found)}); data.same_photo is "
            "refuse, expected first or last if each is to stay in the first or the last of its splits alone."
        )
    for places in shared:
        home, kept = places[0 if same_photo == "first" else -1]
        captions = splits[home][kept] = list(splits[home][kept])
        for split, name in places:
            if split != home:
                captions += [text for text in splits[split].pop(name) if text not in captions]
    for split, images in splits.items():
        if not images:
            raise ValueError(f"{annotation.path}: data.same_photo is {same_photo}, which leaves {split!r} no images.")
    return splits
