"""Parts of the main job that people run alone: scoring one set, and the coresets."""

import csv
from pathlib import Path

from tqdm import tqdm

from engine.cluster import runtime
from engine.cluster.baselines import Baselines, score_row
from engine.cluster.distillation import start
from engine.cluster.errors import own_sentences
from engine.cluster.job import Job, conclude, say
from engine.cluster.scoring import Result, Scorer, score_set, waited
from engine.cluster.trial import BEST_SET
from engine.files import atomic_path, digest
from engine.synthetic.set import load_set
from engine.tracking import table
from engine.tracking.table import Row


def score_file(job: Job, path: str | None, *, local: bool) -> Row:
    """Score a synthetic set under the job's protocol with the job's student, print its row and return it.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: its images or texts are not what the student takes.
    """
    file = Path(path).expanduser().absolute() if path else job.folder / BEST_SET
    pairs = check_fits(job, file)
    scorer = _scorer(job, start(job, local=local))
    with own_sentences():
        result = waited(scorer.submit(score_set, file, key=f"set/{digest(file.read_bytes())}"))
    row = score_row(job, file.stem, pairs, result)
    say(f"\n{table.render_text([row])}")
    return row


def check_fits(job: Job, file: Path) -> int:
    """Return the number of pairs of a set, after comparing its shapes with the student's data.

    Raises:
        ValueError: the texts are embeddings of another encoder, or the images have another size.
    """
    synthetic = load_set(file)
    train, dataset = job.specification.problem().pairs["train"], job.specification.problem().datasets["train"]
    for name, found, wanted in (
        ("images", tuple(synthetic.images.shape[1:]), dataset.images.shape[1:]),
        ("texts", tuple(synthetic.texts.shape[1:]), train.texts.shape[1:]),
    ):
        if found != wanted:
            raise ValueError(f"{file}: its {name} have the shape {found}, expected {wanted} for this student and data.")
    return len(synthetic)


def score_coresets(job: Job, *, local: bool) -> list[Row]:
    """Choose and score the job's coresets, write each as ``image,caption`` rows, print the table and return it."""
    cluster = start(job, local=local)
    baselines = Baselines(job, _scorer(job, cluster))
    baselines.submit_first()
    baselines.submit_rest(cluster.slots(runtime.granted(job.study.resources.evaluation, cluster)))
    with own_sentences(), tqdm(total=len(baselines), desc="scoring", unit="set", disable=None) as bar:
        rows = table.with_recovery(baselines.rows(bar))
    folder = job.specification.storage / "coresets" / f"{job.name}-{job.key}"
    for (name, pairs), score in baselines.coresets.items():
        _write_pairs(job, folder / f"{name}_{pairs}.csv", waited(score))
    conclude(job, rows, f"chosen pairs:   {folder}")
    return rows


def _write_pairs(job: Job, path: Path, result: Result) -> None:
    """Write the chosen pairs as a table that the data set ``table`` reads."""
    train = job.specification.problem().datasets["train"]
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "caption"])
        writer.writerows([train.image_names[train.caption_image[i]], train.captions[i]] for i in result["chosen"])


def _scorer(job: Job, cluster: runtime.Cluster) -> Scorer:
    granted = runtime.granted(job.study.resources.evaluation, cluster)
    return Scorer(job.specification, runtime.actor_options(granted))
