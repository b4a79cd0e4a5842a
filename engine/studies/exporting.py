"""Export of a synthetic set to a folder that other tools read, with its card."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from engine.cluster.errors import one_sentence_errors
from engine.cluster.scoring import score_captions, score_set, waited
from engine.cluster.search.trial import BEST_SET
from engine.config.load import recorded, resolve
from engine.data.terms import Terms, terms_of
from engine.io.files import atomic_folder
from engine.io.storage import Location
from engine.io.terminal import echo
from engine.results.audit import Audit, read_audit
from engine.results.card import card
from engine.results.files import read_table
from engine.results.row import Row
from engine.studies.auditing import set_audit
from engine.studies.baselines import make_scorer, score_row
from engine.studies.distill import start
from engine.studies.evaluate import fitting_set
from engine.studies.job import Job, make_job
from engine.synthetic.folder import CARD, set_digest, write_folder
from engine.synthetic.nearest import words_of
from engine.synthetic.set import SyntheticSet, load_set


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What an export holds beside the set: scores, a tar in place of images, terms in place of the known ones."""

    score: bool = False
    tar: bool = False
    licence: str | None = None
    terms: str | None = None


def export_set(
    file: Location, out: Path, wishes: Wishes, *, job: Job | None, words: Sequence[str], local: bool
) -> None:
    """Write the set in ``file`` as the folder ``out``, whole or not at all, and say what it holds.

    ``job`` is the study that scores it; None: that of the set's metadata, changed by the overrides ``words``. Its data
    and encoders are read only for scores, and for captions where the set holds none.

    Raises:
        FileNotFoundError: there is no such set, or the data or an encoder that are needed are not there.
        ValueError: the set is damaged or of another version or study, or ``out`` is not empty.
    """
    with atomic_folder(out) as folder:
        synthetic = load_set(file)
        if wishes.score or synthetic.captions is None:
            job = job or recorded_job(file, synthetic, words)
            synthetic.captions = synthetic.captions or _read(job, file)
        data = synthetic.metadata.get("data") or (job.study.data.model_dump(mode="json") if job else None)
        terms = terms_of(data)
        terms = Terms(terms.source, wishes.licence or terms.licence, wishes.terms or terms.sentence)
        write_folder(folder, synthetic, tar=wishes.tar)
        rows, audit = _recorded(file, synthetic)
        if wishes.score:
            assert job is not None
            rows, audit = _scored(job, file, folder, synthetic, local=local)
        text = card(synthetic, out.name, terms=terms, tar=wishes.tar, rows=rows, audit=audit)
        (folder / CARD).write_text(text, encoding="utf-8")
        size = sum(one.stat().st_size for one in folder.rglob("*") if one.is_file()) / 1e6
    echo(f"{out}: {len(synthetic)} pairs, {size:.2f} MB; licence {terms.licence}, as its card says ({CARD})")
    if rows:
        recalls = [f"{row.name} {row.mean['mean_recall']:.2f}" for row in rows]
        echo(f"mean recall of its students: {', '.join(recalls)}")


def recorded_job(file: Location, synthetic: SyntheticSet, words: Sequence[str]) -> Job:
    """Return the job of the study that a set's metadata hold, with overrides.

    Raises:
        ValueError: they hold none, or an override does not fit.
    """
    if not {"data", "student", "method"} <= synthetic.metadata.keys():
        raise ValueError(f"{file}: it does not name its study, expected the space it was distilled with before --set.")
    return make_job(file.stem, resolve(recorded(synthetic.metadata, words, place=str(file))))


def _read(job: Job, file: Location) -> tuple[str, ...]:
    """Return the real captions nearest to the texts of a set that fits the job's student."""
    synthetic, setup = fitting_set(job, file), job.specification.setup(device="cpu")
    if synthetic.captions is not None:  # of another text encoder
        return synthetic.captions
    captions, real = setup.datasets["train"].captions, setup.pairs["train"].texts
    return tuple(words_of(synthetic.texts, captions, real, prepare=setup.prepared_texts))


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
    with one_sentence_errors():
        scores = {
            "floats": scorer.submit(score_set, file, key=f"set/{set_digest(file)}"),
            "this folder": scorer.submit(score_set, folder, key=f"set/{key}"),
            "images and captions alone": scorer.submit(score_captions, folder, key=f"captions/{key}"),
        }
        results = {name: waited(score) for name, score in scores.items()}
    full = [scorer.known(f"full/{index}") for index in range(job.study.baselines.full_seeds)]
    rows = [score_row(job, name, len(synthetic), result) for name, result in results.items()]
    return rows, set_audit(job, synthetic, results["floats"], [result for result in full if result])
