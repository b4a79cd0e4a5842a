"""The main job: experts, search, scores and table of one study, each part skipped where it is already done."""

import time
from dataclasses import replace
from functools import cache
from typing import Any

from engine.cluster import runtime
from engine.cluster.errors import one_sentence_errors
from engine.cluster.experts.registry import get_registry
from engine.cluster.experts.train import train_experts
from engine.cluster.nodes import Node, check_nodes
from engine.cluster.prepare import prepare
from engine.cluster.scoring import Result
from engine.cluster.search import tuner
from engine.cluster.search.callbacks import TrialReports
from engine.config.load import as_yaml, assign
from engine.config.resources import TASKS, USUAL_SHARES
from engine.experts.store import ExpertStore
from engine.io.files import atomic_path, digest, write_json
from engine.io.progress import bar, echo
from engine.io.storage import read_whole, remove_tree
from engine.report.study import EXPERTS
from engine.results.files import STUDENTS, TABLE_FILES, read_table, write_students, write_table
from engine.results.history import BEST_SET
from engine.results.row import Row
from engine.results.statistics import with_ratio, with_recovery
from engine.rng import named_generator
from engine.studies.auditing import record_audit
from engine.studies.baselines import Baselines, lanes, make_scorer, score_row, set_name
from engine.studies.begun import begin, begun_by_other_code, check_begun
from engine.studies.finished import print_table, show
from engine.studies.job import Job
from engine.studies.mapping import record_map
from engine.studies.preflight.checks import buffer_warning, check_cluster, check_disk, check_here, check_memory
from engine.studies.preflight.dry_run import bytes_ahead, estimate, shares_ahead
from engine.studies.preflight.memory import TrialBytes
from engine.studies.record import keep, record_page, record_rows, record_table, row_metrics
from engine.studies.students import further_rows, numbered, start_students
from engine.studies.tracked import tracked
from engine.tracking import Tracker


def distill(job: Job, *, local: bool = False, fresh: bool = False) -> list[Row]:
    """Run the missing parts of a study and return its table; an estimate is printed first, and the table last."""
    with one_sentence_errors(job.specification.storage):
        if not fresh and job.finished:
            return show(job)
        check_here(job, fresh=fresh)
        if not fresh:
            check_begun(job)
        ahead = estimate(job)
        echo(ahead.sentence())
        rows = _run_missing(job, ahead.trial, local=local, fresh=fresh)
        print_table(job, rows)
        return rows


def finished_rows(job: Job, *, local: bool = False) -> list[Row]:
    """Run the missing parts of a study, and return its table; neither this nor an estimate is printed."""
    if job.finished:
        return read_table(job.folder)
    check_here(job)
    check_begun(job)
    return _run_missing(job, bytes_ahead(job), local=local, fresh=False)


def start(job: Job, *, local: bool) -> tuple[Job, runtime.Cluster]:
    """Check the study and its data, start or join Ray, say which, check the study against it, and prepare the data."""
    check_here(job)
    cluster, _ = _connect(job, None, local=local)
    return replace(job, specification=prepare(job.specification, cluster)), cluster


def train_missing_experts(job: Job, *, local: bool) -> list[dict[str, Any]]:
    """Train the experts that a study lacks, and nothing else; print and return the store of each of its students.

    The recalls are means on val, in percent, after the last epoch that the study reads; None where none was recorded.
    """
    with one_sentence_errors():
        job, cluster = start(job, local=local)
        _train_experts(job, cluster)
    stores = []
    for folder in (one.expert_folder() for one in job.specification.of_each_student()):
        echo(f"experts: {folder}")
        curves = [ExpertStore(folder).curve(expert) for expert in range(job.expert_count)]
        recalls = [curve.get(job.expert_epochs, {}).get("val/mean_recall") for curve in curves]
        stores.append(
            {
                "folder": str(folder),
                "experts": job.expert_count,
                "epochs": job.expert_epochs,
                "val_mean_recall": recalls,
            }
        )
    return stores


def _train_experts(job: Job, cluster: runtime.Cluster) -> None:
    """Train the experts of each student that the set is learned for, as far as their stores lack them."""
    for one in job.specification.of_each_student():
        train_experts(one, count=job.expert_count, epochs=job.expert_epochs, cluster=cluster)


_say_once = cache(echo)


def _connect(job: Job, step: int | None, *, local: bool) -> tuple[runtime.Cluster, list[Node]]:
    """Start or join Ray, say which, check the study against it, and return it with its nodes.

    ``step`` are the bytes of an outer step, None where they are unknown, or where no trial runs.
    """
    cluster = runtime.start(local=local)
    _say_once(cluster.sentence())
    check_cluster(job, cluster)
    check_disk(job)
    nodes = check_nodes(job.specification.storage)
    gpus = [size for node in nodes for size in node.gpu_bytes]
    cluster = replace(cluster, shares=shares_ahead(job, step, gpus if cluster.gpus else []))
    if cluster.shares is not USUAL_SHARES:
        tasks = [task for task in TASKS if step is not None or task != "trial"]
        each = ", ".join(f"{task} {runtime.granted(job.study.resources, task, cluster)['gpu']:g}" for task in tasks)
        _say_once(f"Share of a GPU: {each}.")
    if warning := buffer_warning(job, cluster):
        echo(warning)
    return cluster, nodes


def _run_missing(job: Job, trial: TrialBytes, *, local: bool, fresh: bool) -> list[Row]:
    """Run what is missing of a study that was checked here, and whose trials need the memory and disk of ``trial``."""
    cluster, nodes = _connect(job, trial.step, local=local)
    check_disk(job, trial.checkpoint)
    check_memory(job, trial.step, runtime.granted(job.study.resources, "trial", cluster), nodes)
    job = replace(job, specification=prepare(job.specification, cluster))
    if fresh:  # experts and scores of baselines stay, since other studies share them
        remove_tree(job.folder)
    begin(job)
    get_registry(job.specification.expert_folder())  # its process and the first student's come up while MLflow does
    scorer = make_scorer(job, cluster)
    baselines = Baselines(job, scorer, lanes(scorer, 1))
    baselines.start_first()
    with one_sentence_errors(job.specification.storage), tracked(job, fresh=fresh) as tracker:
        with atomic_path(job.folder / "configuration.yaml") as temporary:
            temporary.write_text(as_yaml(job.study), encoding="utf-8")
        return _run(job, cluster, baselines, tracker)


def _run(job: Job, cluster: runtime.Cluster, baselines: Baselines, tracker: Tracker) -> list[Row]:
    """Train experts, search, and score; baselines run beside the trials where these leave room for them."""
    started = time.perf_counter()
    resources = job.study.resources
    chosen = tuner.plan(runtime.granted(resources, "trial", cluster), cluster, job.samples)
    _train_experts(job, cluster)
    evaluation = runtime.granted(resources, "evaluation", cluster)
    beside = chosen.leaves(cluster, evaluation)
    baselines.executor.widen(beside)
    if beside:
        baselines.start_rest()
    reports = TrialReports(tracker, job.specification, job.folder)
    best = tuner.search(job.specification, chosen, job.folder, reports)[0]
    rows, further, ours = _scored(job, best, baselines, at_once=cluster.slots(evaluation))
    store = ExpertStore(job.specification.expert_folder())
    if any(curves := [store.curve(expert) for expert in range(job.expert_count)]):
        write_json(job.folder / EXPERTS, curves)
    record_audit(tracker, job, ours, [score.result() for score in baselines.full])
    if job.study.students:
        write_students(job.folder, further)
    write_table(job.folder, rows)  # ends the study
    record_map(job)
    for name in (*TABLE_FILES, BEST_SET, *([STUDENTS] if further else [])):
        keep(tracker, job.folder / name)
    tracker.metrics(row_metrics(rows[0]) | {"seconds": time.perf_counter() - started}, step=0)
    record_table(tracker, [*rows, *further])
    each = {numbered(number): one for number, one in enumerate(job.study.of_each_student(), start=1)}
    record_rows(tracker, [*rows, *further], students=each)
    record_page(tracker, job.folder)
    return rows


def _scored(
    job: Job, best: tuner.Distilled, baselines: Baselines, *, at_once: int
) -> tuple[list[Row], list[Row], Result]:
    """Score the best trial's set, wait for the baselines; return its rows, further students' and the set's score."""
    data = read_whole(best.best_file)
    with atomic_path(job.folder / BEST_SET) as temporary:
        temporary.write_bytes(data)
    own_score, *further_scores = start_students(baselines, job.folder / BEST_SET, key=f"set/{digest(data)}")
    baselines.start_rest()  # where they had no room beside the trials
    baselines.executor.widen(at_once)
    with bar("scoring", total=len(job.study.of_each_student()) + len(baselines), unit="sets") as progress:
        ours = own_score.result()
        progress.advance()
        method = assign(job.study, best.metrics["config"]).method  # may be searched
        cost = {"seconds": best.metrics["time_total_s"], "memory": best.metrics["peak_memory"]}
        diverged = best.metrics.get("diverged_at")
        broken = [] if diverged is None else [f"diverged at outer step {diverged}; this is its best set before that"]
        note = "; ".join([*broken, f"distilled by {method.name}"])
        row = score_row(job, set_name(job.name), method.num_pairs, {**ours, **cost}, note=note, unseen=False)
        further = further_rows(job, further_scores, pairs=row.pairs, progress=progress)
        row = replace(row, made_by=[*row.made_by, *begun_by_other_code(job)])
        own, *real = with_recovery([row, *baselines.rows(progress)])
    return [with_ratio(own, real, named_generator(job.study.seed, "ratio")), *real], further, ours
