"""Choosing and scoring the coresets of a study."""

import polars

from engine.cluster import runtime
from engine.cluster.errors import one_sentence_errors
from engine.io.files import atomic_path
from engine.io.progress import bar
from engine.io.storage import Location
from engine.results.row import Row
from engine.results.statistics import with_recovery
from engine.studies.baselines import Baselines, lanes, make_scorer
from engine.studies.distill import start
from engine.studies.job import Job, conclude
from engine.studies.record import record_rows, record_table
from engine.studies.tracked import tracked


def score_coresets(job: Job, *, local: bool) -> list[Row]:
    """Score the job's coresets as ``coreset_rows`` does, print the table and return it."""
    rows = coreset_rows(job, local=local)
    with tracked(job) as tracker:
        record_table(tracker, rows)
        record_rows(tracker, rows)
    conclude(job, rows, f"chosen pairs:   {_folder(job)}")
    return rows


def coreset_rows(job: Job, *, local: bool) -> list[Row]:
    """Choose and score the job's coresets, write each as a CSV file of ``image,caption``, and return all rows.

    The data set ``table`` reads these files.
    """
    job, cluster = start(job, local=local)
    slots = cluster.slots(runtime.granted(job.study.resources, "evaluation", cluster))
    scorer = make_scorer(job, cluster)
    baselines = Baselines(job, scorer, lanes(scorer, slots))
    baselines.start_first()
    baselines.start_rest()
    with one_sentence_errors(), bar("scoring", total=len(baselines), unit="sets") as progress:
        rows = with_recovery(baselines.rows(progress))
    train = job.specification.setup(device="cpu").datasets["train"]
    for (name, pairs), score in baselines.coresets.items():
        path = _folder(job) / f"{name}_{pairs}.csv"
        chosen = score.result()["chosen"]
        images = [train.image_names[train.caption_image[index]] for index in chosen]
        captions = [train.captions[index] for index in chosen]
        with atomic_path(path) as temporary:
            temporary.write_text(polars.DataFrame({"image": images, "caption": captions}).write_csv(), encoding="utf-8")
    return rows


def _folder(job: Job) -> Location:
    return job.specification.storage / "coresets" / f"{job.name}-{job.key}"
