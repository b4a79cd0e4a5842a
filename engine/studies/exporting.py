"""Export of a synthetic set to a folder that other tools read, with its card."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from engine.cluster import runtime
from engine.cluster.errors import one_sentence_errors
from engine.cluster.scoring import score_captions, score_set
from engine.config.load import recorded, resolve
from engine.data.terms import Terms, terms_of
from engine.io.files import atomic_folder
from engine.io.progress import bar, echo
from engine.io.storage import Location
from engine.results.audit import Audit, read_audit
from engine.results.card import card
from engine.results.files import document, read_table
from engine.results.history import BEST_SET
from engine.results.row import Row
from engine.studies.auditing import set_audit
from engine.studies.baselines import lanes, make_scorer, score_row
from engine.studies.distill import start
from engine.studies.evaluate import fitting_set
from engine.studies.job import Job, make_job
from engine.synthetic.folder import CARD, set_digest, write_folder
from engine.synthetic.set import SyntheticSet, load_set


def export_set(
    file: Location,
    out: Path,
    *,
    job: Job | None,
    words: Sequence[str],
    score: bool,
    tar: bool,
    licence: str | None,
    terms: str | None,
    local: bool,
) -> dict[str, Any]:
    """Write the set in ``file`` as the folder ``out``, whole or not at all; print what it holds, and return that.

    ``job`` is the study that scores it; None: that of the set's metadata, changed by the overrides ``words``. Its data
    and encoders are read only for scores, and for captions where the set holds none. With ``tar``, a tar takes the
    place of images; ``licence`` and ``terms`` that of the known ones.

    Raises:
        FileNotFoundError: there is no such set, or the data or an encoder that are needed are not there.
        ValueError: the set is damaged, of another version or study, or names none, or ``out`` is not empty.
    """
    with atomic_folder(out) as folder:
        synthetic = load_set(file)
        if score or synthetic.captions is None:
            if not job and not {"data", "student", "method"} <= synthetic.metadata.keys():
                raise ValueError(
                    f"{file}: it does not name its study, expected the space it was distilled with before --set."
                )
            job = job or make_job(file.stem, resolve(recorded(synthetic.metadata, words, place=str(file))))
            synthetic.captions = synthetic.captions or _read(job, file)
        data = synthetic.metadata.get("data") or (job.study.data.model_dump(mode="json") if job else None)
        known = terms_of(data)
        chosen = Terms(known.source, licence or known.licence, terms or known.sentence)
        write_folder(folder, synthetic, tar=tar)
        rows, audit = _recorded(file, synthetic)
        if score:
            assert job is not None
            rows, audit = _scored(job, file, folder, synthetic, local=local)
        text = card(synthetic, out.name, terms=chosen, tar=tar, rows=rows, audit=audit)
        (folder / CARD).write_text(text, encoding="utf-8")
        sizes = {str(one.relative_to(folder)): one.stat().st_size for one in folder.rglob("*") if one.is_file()}
    size = sum(sizes.values())
    echo(f"{out}: {len(synthetic)} pairs, {size / 1e6:.2f} MB; licence {chosen.licence}, as its card says ({CARD})")
    if rows:
        recalls = [f"{row.name} {row.mean['mean_recall']:.2f}" for row in rows]
        echo(f"mean recall of its students: {', '.join(recalls)}")
    made = {"folder": str(out), "files": sorted(sizes), "bytes": size, "pairs": len(synthetic)}
    return made | {"licence": chosen.licence} | ({"scores": document(rows)["rows"]} if rows else {})


def _read(job: Job, file: Location) -> tuple[str, ...]:
    """Return the real captions nearest to the texts of a set that fits the job's student."""
    fitting = fitting_set(job, file)
    return fitting.captions or job.specification.setup(device="cpu").nearest_words(fitting.texts)


def _recorded(file: Location, synthetic: SyntheticSet) -> tuple[list[Row], Audit | None]:
    """Return the row of a set in the table of its finished study, and its audit, if these lie beside it."""
    if file.name != BEST_SET or not (file.parent / "table.json").exists():
        return [], None
    own = read_table(file.parent)[0]
    return ([replace(own, name="floats")], read_audit(file.parent)) if own.pairs == len(synthetic) else ([], None)


def _scored(
    job: Job, file: Location, folder: Path, synthetic: SyntheticSet, *, local: bool
) -> tuple[list[Row], Audit | None]:
    """Score a set as floats, as exported, and by what it shows alone; audit it beside the known scores of all pairs."""
    fitting_set(job, file)
    job, cluster = start(job, local=local)
    scorer, key = make_scorer(job, cluster), set_digest(folder)
    score, granted = scorer.score, runtime.granted(job.study.resources, "evaluation", cluster)
    at_once = lanes(scorer, cluster.slots(granted))
    with one_sentence_errors():
        scores = {
            "floats": at_once.start(lambda: score(score_set, file, key=f"set/{set_digest(file)}")),
            "this folder": at_once.start(lambda: score(score_set, folder, key=f"set/{key}")),
            "images and captions alone": at_once.start(lambda: score(score_captions, folder, key=f"captions/{key}")),
        }
        with bar("scoring", total=len(scores), unit="scores") as progress:
            results = {}
            for name, found in scores.items():
                results[name] = found.result()
                progress.advance()
    full = [scorer.known(f"full/{index}") for index in range(job.study.baselines.full_seeds)]
    rows = [score_row(job, name, len(synthetic), result) for name, result in results.items()]
    return rows, set_audit(job, synthetic, results["floats"], [result for result in full if result])
