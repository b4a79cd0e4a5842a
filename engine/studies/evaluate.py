"""Scoring one synthetic set."""

from engine.cluster.errors import one_sentence_errors
from engine.cluster.scoring import score_set, waited
from engine.cluster.search.trial import BEST_SET
from engine.io.storage import Location
from engine.io.terminal import echo
from engine.results.render import render_text
from engine.results.row import Row
from engine.rewording import reworded
from engine.studies.baselines import make_scorer, score_row
from engine.studies.distill import start
from engine.studies.job import Job
from engine.studies.registered import set_location
from engine.synthetic.folder import set_digest
from engine.synthetic.set import SyntheticSet, load_set


def score_file(job: Job, path: str | None, *, local: bool) -> Row:
    """Score a set, in a file, a folder or MLflow's registry, under the job's protocol; print its row and return it.

    Without ``path``, the set is the one that the job has distilled.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The shape of its images or texts does not fit the student.
    """
    file = set_location(path, job.specification.storage) if path else job.folder / BEST_SET
    row = set_row(job, file, file.stem, local=local)
    echo(f"\n{render_text([row])}")
    return row


def set_row(job: Job, file: Location, name: str, *, local: bool) -> Row:
    """Score a synthetic set as ``score_file`` does, and return its row; a note says whether its texts were reworded."""
    synthetic = fitting_set(job, file)
    job, cluster = start(job, local=local)
    scorer = make_scorer(job, cluster)
    with one_sentence_errors():
        result = waited(scorer.submit(score_set, file, key=f"set/{set_digest(file)}"))
    return score_row(job, name, len(synthetic), result, note=synthetic.metadata.get("reworded", ""))


def fitting_set(job: Job, file: Location) -> SyntheticSet:
    """Load a set for the job's student, with texts of its text encoder.

    Raises:
        ValueError: The encoder of the set's texts is unknown, or the shape of its images or texts does not fit.
    """
    setup = job.specification.setup(device="cpu")
    loaded = load_set(file)
    try:
        synthetic = reworded(job.study, setup, job.specification.paths, loaded)
    except ValueError as error:
        raise ValueError(f"{file}: the text encoder of its texts, in its metadata, cannot be built: {error}") from error
    for name, found, expected in (
        ("images", tuple(synthetic.images.shape[1:]), setup.datasets["train"].images.shape[1:]),
        ("texts", tuple(synthetic.texts.shape[1:]), setup.text_shape()),
    ):
        if found != expected:
            raise ValueError(
                f"{file}: its {name} have the shape {found}, expected {expected} for this student and data."
            )
    return synthetic
