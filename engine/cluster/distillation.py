"""The main job: experts, search, scores and table of one study, each part skipped where it is already done."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

from ray import tune
from tqdm import tqdm

from engine.cluster import runtime, tuner
from engine.cluster.baselines import Baselines, score_row
from engine.cluster.job import Job, conclude, forget, say, tracked, train_experts
from engine.cluster.reports import TrialReports
from engine.cluster.scoring import Scorer, score_set
from engine.cluster.trial import BEST_SET
from engine.files import atomic_path, digest
from engine.tracking import Tracker, table
from engine.tracking.table import Row

TABLE_FILES = ("table.md", "table.csv", "table.json")


def distill(job: Job, *, local: bool = False, fresh: bool = False) -> list[Row]:
    """Run what is missing of a study, print its table and return it.

    Raises:
        ValueError: the study cannot be run as it is configured.
        RuntimeError: experts or trials failed for good.
    """
    if fresh:
        forget(job)
    if (job.folder / "table.json").exists():
        say("This study is finished, and this is its table (--fresh starts over).")
        rows = table.read(job.folder)
    else:
        say((cluster := runtime.start(local=local)).sentence())
        with tracked(job, fresh=fresh) as tracker:
            rows = _run(job, cluster, tracker)
    conclude(job, rows, f"synthetic set:  {job.folder / BEST_SET}")
    return rows


def _run(job: Job, cluster: runtime.Cluster, tracker: Tracker) -> list[Row]:
    """Train experts, search, and score; baselines run beside the trials where these leave CPUs free."""
    started = time.perf_counter()
    chosen = tuner.plan(job.study, cluster, runtime.granted(job.study.resources.trial, cluster), job.samples)
    evaluation = runtime.granted(job.study.resources.evaluation, cluster)
    scorer = Scorer(job.specification, runtime.actor_options(evaluation))
    beside = chosen.idle_cpus(cluster)
    job.specification.problem()
    with ThreadPoolExecutor(max_workers=beside or int(max(1, cluster.cpus // max(1, evaluation["cpu"])))) as pool:
        baselines = Baselines(job, scorer, pool)
        baselines.submit_first()
        train_experts(job, cluster)
        if beside:
            baselines.submit_rest()
        reports = TrialReports(tracker, job.specification, job.folder / "trials", trials=chosen.samples)
        best = tuner.search(job.specification, chosen, job.folder / "tune", [reports])[0]
        if not beside:
            baselines.submit_rest()
        rows = _scored(job, scorer, best, baselines)
    _record(job, rows, tracker, seconds=time.perf_counter() - started)
    return rows


def _scored(job: Job, scorer: Scorer, best: tune.Result, baselines: Baselines) -> list[Row]:
    """Score the best trial's set and wait for the baselines."""
    assert best.checkpoint is not None
    data = (Path(best.checkpoint.path) / BEST_SET).read_bytes()
    with atomic_path(job.folder / BEST_SET) as temporary:
        temporary.write_bytes(data)
    with tqdm(total=1 + len(baselines), desc="scoring", unit="set", disable=None) as bar:
        ours = scorer(score_set, job.folder / BEST_SET, key=f"set/{digest(data)}")
        bar.update()
        ours["seconds"] = cast(dict, best.metrics)["time_total_s"]
        row = score_row(job, job.study.method.name, job.study.method.num_pairs, ours)
        return table.with_recovery([row, *baselines.rows(bar)])


def _record(job: Job, rows: list[Row], tracker: Tracker, *, seconds: float) -> None:
    """Keep the table, the set and the headline numbers with the study's run; the table on disk ends the study."""
    table.write(job.folder, rows)
    for name in (*TABLE_FILES, BEST_SET):
        tracker.artifact(job.folder / name)
    numbers = {f"test/{name}": value for name, value in rows[0].mean.items()}
    tracker.metrics({**numbers, "test/recovery": rows[0].recovery or 0.0, "seconds": seconds}, step=0)
