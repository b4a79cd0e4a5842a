"""Audit of a set with the data of its study."""

from collections.abc import Sequence

from engine.cluster.scoring import Result
from engine.io.progress import echo
from engine.results.audit import AUDIT, TITLES, Audit, write_audit
from engine.results.auditing import Ranks, audit
from engine.results.history import BEST_SET
from engine.studies.job import Job
from engine.studies.record import keep
from engine.synthetic.set import SyntheticSet, load_set
from engine.tracking import Tracker


def set_audit(job: Job, synthetic: SyntheticSet, ours: Result, full: Sequence[Result]) -> Audit:
    """Return the audit of a set with its own score and those of all pairs; without these, retrieval is left out."""
    setup = job.specification.setup(device="cpu")
    train, by_all = setup.datasets["train"], [digits for result in full for digits in result.get("ranks", ())]
    captions = synthetic.captions or setup.nearest_words(synthetic.texts)
    ranks = Ranks(ours["ranks"], by_all) if ours.get("ranks") and by_all else None
    cache = job.specification.paths.cache
    return audit(synthetic, train, setup.datasets["test"], captions=captions, folder=cache, ranks=ranks)


def record_audit(tracker: Tracker, job: Job, ours: Result, full: Sequence[Result]) -> None:
    """Write the audit of a study's set into its folder and keep it; one that cannot be made ends nothing."""
    try:
        synthetic = load_set(job.folder / BEST_SET)
        found = set_audit(job, synthetic, ours, full)
        write_audit(job.folder, found)
        keep(tracker, job.folder / AUDIT)
        if cells := found.table():
            tracker.table("kept_and_lost", dict(zip(TITLES, zip(*cells, strict=True), strict=True)))
        near = found.nearest
        said = {"caption": synthetic.captions} if synthetic.captions else {}
        tracker.table(
            "pairs", {"pair": range(1, found.pairs + 1), **said, "nearest photo": near.names, "bits": near.bits}
        )
    except Exception as error:  # the table is written already
        echo(f"The audit is missing, since {type(error).__name__}: {error}")
