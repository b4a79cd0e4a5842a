"""Location of photos: their files below the folders that the user named."""

import os.path
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Literal

from engine.data.records import Annotation
from engine.io.sentences import listed, shown

Links = Literal["inside", "follow"]
"""Symbolic links: only those to files below the named folders are followed, or all (those of hubs and DVC)."""


def locate_images(
    annotation: Annotation, names: Sequence[str], root: Path, *, named: Sequence[Path], links: Links
) -> dict[str, Path]:
    """Return the file of every image name below ``root``; the user has named the folders ``named``.

    Raises:
        ValueError: a name leads out of ``root``, by ``..`` or as an absolute path, or a link out of ``named``.
        FileNotFoundError: images are absent.
    """
    files = {name: root / name for name in names}
    for name in files:
        if leaves_folder(name):
            raise ValueError(f"{annotation.place(name)} leads out of the image folder {root}, which is refused.")
    if missing := [name for name, file in files.items() if not os.path.isfile(file)]:
        first, number = missing[0], len(missing)
        captions = [caption for split in annotation.splits.values() for caption in split.get(first, ())]
        swapped = ", but its caption is" if any(os.path.isfile(root / caption) for caption in captions) else ""
        others = f" ({listed([shown(name) for name in missing])})" if number > 1 else ""
        elsewhere = "; if they are elsewhere, name the folder as data.images or data.root" if number > 1 else ""
        raise FileNotFoundError(
            f"{annotation.place(first)} is not in {root}{swapped}; {number:,} of {len(files):,} images are missing"
            f"{others}{elsewhere if number == len(files) else ''}."
        )
    inside = tuple(folder.resolve() for folder in named)
    real = cache(os.path.realpath)  # of the folders, which many images share

    def leaves(file: Path) -> bool:
        target = Path(os.path.realpath(file) if file.is_symlink() else os.path.join(real(file.parent), file.name))
        return not any(target.is_relative_to(folder) for folder in inside)

    if links == "inside" and (leaving := [name for name, file in files.items() if leaves(file)]):
        raise ValueError(
            f"{annotation.place(leaving[0])} is a link that leads out of {named[0]} to {files[leaving[0]].resolve()}, "
            f"as {len(leaving):,} of {len(files):,} images do; data.links is inside, expected follow to allow it."
        )
    return files


def leaves_folder(name: str) -> bool:
    """Return whether a name is no relative path inside a folder: absolute, or with a ``..`` in it."""
    return Path(name).is_absolute() or ".." in Path(name).parts
