"""LoRS: trajectory matching in which the similarity of every image with every text is learned too."""

from dataclasses import dataclass, field

from engine.losses.contrastive import LossName
from engine.methods._trajectory_matching import TrajectoryMatching
from engine.methods._unrolled import GradientName
from engine.ranges import Count
from engine.synthetic.similarity import SimilarityOptions


@dataclass(frozen=True, kw_only=True)
class Method(TrajectoryMatching):
    """Learn images, texts, rates and a similarity matrix that students then take for their targets.

    All other options are those of ``TrajectoryMatching``. Published: ``gradient`` truncated (``exact`` is ours), the
    wBCE loss, a low-rank similarity and inner batches of 20; one pair fewer than the budget pays for the similarity,
    which here is counted in bytes instead. Published inner batches are drawn from permutations, as here.

    References:
        arXiv 2406.03793 and its public code (wBCE, BCE, eNCE as ``info_nce``, KL); its gradient, arXiv 2211.10586.
    """

    inner_batch: Count | None = 20
    loss: LossName = "wbce"
    similarity: SimilarityOptions = field(default_factory=SimilarityOptions)
    gradient: GradientName = "truncated"

    def target(self) -> tuple[LossName, SimilarityOptions]:
        """Return the loss, and the similarity that is learned."""
        return self.loss, self.similarity
