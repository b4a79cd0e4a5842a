"""What a study was begun with: inputs, code and files of the data, which are compared with today's when it goes on."""

from contextlib import suppress
from pathlib import Path
from typing import Any

from engine.data.peek import PHOTO, TEXT, files_below
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
    same = earlier.get("numbers") == now["numbers"]
    by = "" if same else f" by commit {earlier.get('commit')}, and goes on by {now['commit']}"
    echo(f"This study was begun before{by}; what is done of it is kept (--fresh starts over).")


def begun_by_other_code(job: Job) -> list[Provenance]:
    """Return the provenance of the code that began a study; none where it is today's, or was not recorded."""
    known = _read(job)
    other = known and known["provenance"].get("numbers") != provenance()["numbers"]
    return [Provenance(**known["provenance"])] if other else []


def files_changed(job: Job) -> bool:
    """Return whether files of the data were added, changed or taken away since the study was begun, as far as known."""
    known, now = _read(job).get("files"), _files(job)
    return bool(known and now and known != now)


def _files(job: Job) -> str:
    """Return a digest of names, sizes and times of photos and texts in the root of the data; empty if there is none."""
    root, storage = job.study.data.options.get("root"), job.specification.storage
    if not isinstance(root, str):
        return ""
    found, folder = [], job.specification.paths.data_path(root)
    for name in files_below(folder, {*PHOTO, *TEXT}):
        file = folder / name
        if not (isinstance(storage, Path) and file.is_relative_to(storage)):
            with suppress(OSError):  # a link that leads nowhere
                found.append(f"{name} {file.stat().st_size} {file.stat().st_mtime_ns}")
    return digest(*found) if found else ""


def _read(job: Job) -> dict[str, Any]:
    """Return what was written; empty where there is nothing, or a file that was spoiled."""
    try:
        found = read_json(job.folder / BEGUN)
        return dict(found) if all(isinstance(found[key], dict) for key in ("inputs", "provenance")) else {}
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return {}
