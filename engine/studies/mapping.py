"""Map of a study's real and synthetic pairs."""

from engine.experts.store import ExpertStore
from engine.io.progress import echo
from engine.report.figures import counted
from engine.results.history import BEST_SET
from engine.results.pair_map import pair_map, write_map
from engine.studies.job import Job
from engine.synthetic.set import load_set


def record_map(job: Job) -> None:
    """Write the map of a study's set into its folder, by its first expert; without experts, or on an error, no map."""
    try:
        store, setup = ExpertStore(job.specification.expert_folder()), job.specification.setup(device="cpu")
        trained = [(expert, epochs[-1]) for expert, epochs in sorted(store.index().items()) if epochs[-1] > 0]
        for expert, epoch in trained[:1]:
            words = f"a student of all pairs (expert {expert} after {counted(epoch, 'epoch')})"
            params, real = store.load(expert, epoch), setup.pairs["train"]
            write_map(job.folder, pair_map(setup.student, params, real, load_set(job.folder / BEST_SET), student=words))
    except Exception as error:  # the table is written already
        echo(f"The map of pairs is missing, since {type(error).__name__}: {error}")
