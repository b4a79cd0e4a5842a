"""Claims: a trial is hardly slower than a direct loop over the same work, and than one that records nothing.

python -m benchmarks.overhead [--steps 16] [--every 8] [--images 1000] [--repeat 3]

The trial is that of a study of the demo's shapes on a private Ray: Tune, checkpoints, histories, frames, and MLflow in
the driver, with a point an outer step of every curve. The references are a process of its own with as many threads that
calls the method, torch's Adam and the validation in a plain loop, and the same trial whose reports forget what they are
told. All begin from the same set and must end with the same one. What passes between two outer steps is measured by the
clock, from the first step on; each step counts with the median of ``repeat`` runs that alternate. A trial waits for its
driver's calls to MLflow, which are timed, too; what is then sent takes the driver's processor alone.
"""

import tempfile
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, cast

import torch

from benchmarks.common import Row, check_same, difference, in_fresh_process, main
from engine import build
from engine.cluster import runtime
from engine.cluster.experts.train import train_experts
from engine.cluster.prepare import prepare
from engine.cluster.search import tuner
from engine.cluster.search.callbacks import TrialReports
from engine.config.load import load, resolve
from engine.evaluation.validation import validate
from engine.experts.store import ExpertStore
from engine.io.storage import remove_tree
from engine.rng import named_generator
from engine.specification import Specification
from engine.studies.job import Job, make_job
from engine.studies.tracked import tracked
from engine.synthetic.set import load_set
from engine.tensors import Params
from engine.tracking import Tracker

SPACE = Path(__file__).parents[1] / "tune_spaces" / "shapes_100.yaml"


@dataclass(frozen=True)
class Size:
    """Outer steps, validated every few, of so many pairs that stand for the captions of ``images`` images."""

    steps: int = 16
    every: int = 8
    images: int = 1000
    pairs: int = 100
    repeat: int = 3

    def job(self, storage: Path) -> Job:
        """Return the study with one trial."""
        words = (
            f"storage={storage}", "search={}", "experts.count=1", f"data.train_images={self.images}",
            "data.val_images=100", "data.test_images=100", f"budget={{outer_steps: {self.steps}, "
            f"evaluate_every: {self.every}}}", f"method.num_pairs={self.pairs}", "protocol.select_step=last",
        )  # fmt: skip
        return make_job(str(SPACE), resolve(load(SPACE, list(words))))


SMALLEST = Size(steps=2, every=1, images=60, pairs=8, repeat=1)


class Forgetful:
    """A tracker that records nothing."""

    def __getattr__(self, name: str) -> Any:
        return lambda *given, **named: self


class Watched(TrialReports):
    """Reports that keep the time of every outer step, and the seconds that they have taken themselves."""

    times: list[float]
    waited: float = 0.0

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        began = time.perf_counter()
        super().on_trial_result(iteration, trials, trial, result, **info)
        self.waited += time.perf_counter() - began
        self.times = [*getattr(self, "times", []), *(moment for moment, _ in result["steps"])]


def through_the_engine(
    job: Job, cluster: runtime.Cluster, waited: list[float], *, logged: bool
) -> tuple[list[float], Params]:
    """Run the search of the study from its beginning; return the time of every step and the set.

    The seconds that the trial has waited for its reports are added to ``waited``.
    """
    remove_tree(job.folder)
    chosen = tuner.plan(runtime.granted(job.study.resources, "trial", cluster), cluster, 1)
    with tracked(job, fresh=True) if logged else nullcontext(cast(Tracker, Forgetful())) as tracker:
        reports = Watched(tracker, job.specification, job.folder)
        best = tuner.search(job.specification, chosen, job.folder, reports)[0]
    waited.append(reports.waited)
    return reports.times, load_set(best.best_file).state_dict()


def direct(specification: Specification, steps: int, every: int) -> tuple[list[float], Params]:
    """Take the same outer steps and validations in a plain loop."""
    torch.set_num_threads(1)
    study, setup = specification.study, specification.setup("cpu")
    run = build.distillation(study, setup, ExpertStore(specification.expert_folder()))
    students, protocol = [(setup.student, setup.pairs["val"])], build.protocol(study)
    optimiser, times = torch.optim.Adam(run.optimiser.param_groups), []
    for step in range(steps):
        optimiser.zero_grad()
        run.method.backward(run.state, run.sources, named_generator(study.seed, f"outer/{step}"))
        optimiser.step()
        times.append(time.time())
        if (step + 1) % every == 0:
            validate(run.synthetic, students, protocol, seed=study.seed)
    return times, run.synthetic.state_dict()


def measure(size: Size) -> Iterator[Row]:
    """Yield the rows of the claims."""
    import ray

    with tempfile.TemporaryDirectory() as folder:
        try:
            cluster = runtime.start(local=True)
            job = size.job(Path(folder) / "runs")
            specification = prepare(job.specification, cluster)
            job = Job(job.name, job.study, specification, 1)
            train_experts(specification, count=1, epochs=job.expert_epochs, cluster=cluster)
            waited: list[float] = []
            ways = {
                "engine": partial(through_the_engine, job, cluster, waited, logged=True),
                "unlogged": partial(through_the_engine, job, cluster, [], logged=False),
                "direct": partial(in_fresh_process, direct, specification, size.steps, size.every),
            }
            gaps: dict[str, list[list[float]]] = {name: [] for name in ways}
            sets: dict[str, Params] = {}
            for _ in range(size.repeat):
                for name, way in ways.items():
                    times, sets[name] = way()
                    gaps[name].append([after - before for before, after in pairwise(times)])
        finally:
            ray.shutdown()
    for name in ("direct", "unlogged"):
        check_same(f"set after {size.steps} outer steps", difference(sets["engine"], sets[name]), limit=1e-6)
    medians = {name: [median(step) for step in zip(*runs, strict=True)] for name, runs in gaps.items()}
    took = {name: sum(each) for name, each in medians.items()}
    validated = {name: sum(each[size.every - 1 :: size.every]) for name, each in medians.items()}
    parts = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in validated.items())
    print(f"  of that between steps with a validation: {parts}")
    each = median(waited) / size.steps
    share = each * (size.steps - 1) / took["engine"]
    print(f"  the trial waits for its driver's calls to MLflow: {1e3 * each:.2f} ms an outer step, {share:.2%} of it")
    steps = f"{size.steps - 1} outer steps of a trial"
    for claim, name, against in (
        (f"engine: {steps}, logging included", "direct", "a direct loop"),
        (f"logging: {steps}", "unlogged", "without a tracker"),
    ):
        yield Row(
            claim, against, f"{took['engine']:.3g} s", f"{took[name]:.3g} s", took["engine"] / took[name], "<= 1.03",
            "checkpoints, frames and reports at every validation",
        )  # fmt: skip


if __name__ == "__main__":
    main(__doc__, Size, SMALLEST, measure)
