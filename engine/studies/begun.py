"""What a study was begun with: inputs, code and files of the data, which are compared with today's when it goes on."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine.io.files import digest, read_json, write_json
from engine.io.progress import echo
from engine.provenance import changed_inputs, provenance
from engine.results.row import Provenance
from engine.studies.job import Job

BEGUN = "begun.json"


def check_begun(job: Job) -> None:
    """Check that a study goes on with the photos, captions and encoders that it was begun with, if it was.

    Raises:
        ValueError: it was begun with others.
    """
    if changed := changed_inputs(_read(job).get("inputs", {}), job.specification.setup(device="cpu").inputs):
        raise ValueError(
            f"{job.folder}: this study was begun with other {changed} than it reads now; --fresh starts it over."
        )


def begin(job: Job) -> None:
    """Write what a study is begun with; where it was begun before, say that it goes on, and by which other code."""
    now, known = provenance(), _read(job)
    if not known:
        inputs = job.specification.setup(device="cpu").inputs
        write_json(job.folder / BEGUN, {"inputs": inputs, "provenance": now, "files": _files(job)})
        return
    earlier = known["provenance"]
    by = "" if earlier["numbers"] == now["numbers"] else f", begun by commit {earlier['commit']}, by {now['commit']}"
    echo(f"This study goes on where it was stopped{by} (--fresh starts over).")


def begun_by_other_code(job: Job) -> list[Provenance]:
    """Return the provenance of the code that began a study; none where it is today's, or was not recorded."""
    known = _read(job)
    other = known and known["provenance"]["numbers"] != provenance()["numbers"]
    return [Provenance(**known["provenance"])] if other else []


def files_changed(job: Job) -> bool:
    """Return whether files of the data were added, changed or taken away since the study was begun, as far as known."""
    known, now = _read(job).get("files"), _files(job)
    return bool(known and now and known != now)


def _files(job: Job) -> str:
    """Return a digest of names, sizes and times of the files in the root of the data; empty where there is none."""
    root = job.study.data.options.get("root")
    folder = job.specification.paths.data_path(root) if isinstance(root, str) else None
    if folder is None or not os.path.isdir(folder):
        return ""
    return digest(*sorted(_status_of_files(folder, Path())))


def _status_of_files(folder: Path, below: Path) -> Iterator[str]:
    with os.scandir(folder / below) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _status_of_files(folder, below / entry.name)
            elif entry.is_file():
                status = entry.stat()
                yield f"{below / entry.name} {status.st_size} {status.st_mtime_ns}"


def _read(job: Job) -> dict[str, Any]:
    try:
        return dict(read_json(job.folder / BEGUN))
    except (FileNotFoundError, ValueError, TypeError):
        return {}
