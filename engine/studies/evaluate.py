"""Parts of the main job that people run alone: scoring one set, and the coresets."""

import csv

from tqdm import tqdm

from engine import build
from engine.cluster import runtime
from engine.cluster.errors import own_sentences
from engine.cluster.scoring import Result, Scorer, score_set, waited
from engine.cluster.search.trial import BEST_SET
from engine.io.files import atomic_path, digest
from engine.io.storage import Location, location
from engine.io.terminal import echo
from engine.results import table
from engine.results.table import Row
from engine.studies.baselines import Baselines, score_row
from engine.studies.distill import start
from engine.studies.executor import Executor
from engine.studies.job import Job, conclude
from engine.synthetic.set import SyntheticSet, load_set


def score_file(job: Job, path: str | None, *, local: bool) -> Row:
    """Score a synthetic set under the job's protocol with the job's student, print its row and return it.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: its images or texts are not what the student takes.
    """
    file = location(path, key="--set") if path else job.folder / BEST_SET
    row = set_row(job, file, file.stem, local=local)
    echo(f"\n{table.render_text([row])}")
    return row


def set_row(job: Job, file: Location, name: str, *, local: bool) -> Row:
    """Score a synthetic set as ``score_file`` does, and return its row; a note says where its texts are captions."""
    synthetic = fitting_set(job, file)
    scorer = _scorer(job, start(job, local=local))
    with own_sentences():
        result = waited(scorer.submit(score_set, file, key=f"set/{digest(file.read_bytes())}"))
    reworded = "its texts are the nearest real captions, embedded anew" if "reworded" in synthetic.metadata else ""
    return score_row(job, name, len(synthetic), result, note=reworded)


def fitting_set(job: Job, file: Location) -> SyntheticSet:
    """Return a set as the job's student takes it.

    Raises:
        ValueError: the texts are embeddings of an encoder that is not known, or the images have another size.
    """
    setup = job.specification.setup(device="cpu")
    synthetic = build.reworded(job.study, setup, job.specification.paths, load_set(file))
    for name, found, wanted in (
        ("images", tuple(synthetic.images.shape[1:]), setup.datasets["train"].images.shape[1:]),
        ("texts", tuple(synthetic.texts.shape[1:]), setup.text_shape()),
    ):
        if found != wanted:
            raise ValueError(f"{file}: its {name} have the shape {found}, expected {wanted} for this student and data.")
    return synthetic


def score_coresets(job: Job, *, local: bool) -> list[Row]:
    """Choose and score the job's coresets, write each as ``image,caption`` rows, print the table and return it."""
    rows = coreset_rows(job, local=local)
    conclude(job, rows, f"chosen pairs:   {_coreset_folder(job)}")
    return rows


def coreset_rows(job: Job, *, local: bool) -> list[Row]:
    """Choose and score the job's coresets, write each as ``image,caption`` rows, and return the table."""
    cluster = start(job, local=local)
    slots = cluster.slots(runtime.granted(job.study.resources.evaluation, cluster))
    baselines = Baselines(job, _scorer(job, cluster), Executor(slots))
    baselines.start_first()
    baselines.start_rest()
    with own_sentences(), tqdm(total=len(baselines), desc="scoring", unit="set", disable=None) as bar:
        rows = table.with_recovery(baselines.rows(bar))
    for (name, pairs), score in baselines.coresets.items():
        _write_pairs(job, _coreset_folder(job) / f"{name}_{pairs}.csv", score.result())
    return rows


def _coreset_folder(job: Job) -> Location:
    return job.specification.storage / "coresets" / f"{job.name}-{job.key}"


def _write_pairs(job: Job, path: Location, result: Result) -> None:
    """Write the chosen pairs as a table that the data set ``table`` reads."""
    train = job.specification.setup(device="cpu").datasets["train"]
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "caption"])
        writer.writerows([train.image_names[train.caption_image[i]], train.captions[i]] for i in result["chosen"])


def _scorer(job: Job, cluster: runtime.Cluster) -> Scorer:
    granted = runtime.granted(job.study.resources.evaluation, cluster)
    return Scorer(job.specification, runtime.actor_options(granted))
