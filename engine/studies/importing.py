"""Import distilled sets and expert buffers of published code; nothing is trained, and no cluster is needed."""

from pathlib import Path

from engine import build
from engine.experts.store import ExpertStore
from engine.io.progress import echo
from engine.studies.job import Job
from engine.synthetic.import_published import Normalisation, import_buffers, read_published_set


def import_set(job: Job, source: Path, target: Path, *, alpha: float | None, normalisation: Normalisation) -> None:
    """Write a published set as one of the job's student, whose text encoder it is taken to be of.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no such set, or the target is there already.
    """
    if target.exists():
        raise ValueError(f"{target}: there is such a file already, expected another name as --out.")
    synthetic = read_published_set(source, alpha=alpha, normalisation=normalisation)
    synthetic.metadata["student"] = job.study.student.model_dump(mode="json")
    synthetic.save(target)
    learning_rates = ", ".join(f"{modality} {rate:.3g}" for modality, rate in synthetic.learning_rates().items())
    echo(f"{target}: {len(synthetic)} pairs, images {list(synthetic.images.shape[1:])}, "
        f"texts {list(synthetic.texts.shape[1:])}, learned rates {learning_rates}")  # fmt: skip


def import_experts(job: Job, folder: Path) -> None:
    """Write published expert buffers into the store of the job's experts, which has to be empty.

    Raises:
        FileNotFoundError: there are no buffers.
        ValueError: they do not fit the job's student, or the store holds experts.
    """
    paths = job.specification.paths
    encoder = build.build_text_encoder(job.study, paths)
    student = build.build_student(job.study, paths, encoder=encoder)
    store = ExpertStore(job.specification.expert_folder())
    last = import_buffers(folder, student, store)
    echo(f"{store.folder}: {len(last)} experts with up to {max(last.values())} epochs")
    if len(last) < job.expert_count or min(last.values()) < job.expert_epochs:
        echo(f"The study reads {job.expert_count} experts up to epoch {job.expert_epochs}: the others will be trained.")
