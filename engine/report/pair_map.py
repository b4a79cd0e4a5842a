"""Figure of real and synthetic pairs in the joint space of a student."""

from matplotlib.collections import LineCollection, PathCollection
from matplotlib.figure import Figure

from engine.report.figures import COLOURS, INK, MARKERS, counted, new_axes
from engine.results.pair_map import PairMap


def caption(found: PairMap) -> str:
    """Return the caption of ``draw_map``."""
    real, synthetic = found.real, found.synthetic
    return (
        f"Map of pairs in the joint space of {found.student}: {counted(len(real.pairs), 'real pair')} of train, drawn "
        f"at random (small, pale), and all {counted(len(synthetic.pairs), 'synthetic pair')} (large; a line joins an "
        "image and its text). The axes are the first two principal components of the real images and texts, with "
        f"{found.variance[0]:.0f} and {found.variance[1]:.0f} % of their variance: what is near here may be far in "
        f"the whole space. Mean cosine of an image and its text there: {real.cosine:.2f} of real pairs, "
        f"{synthetic.cosine:.2f} of synthetic ones."
    )


def draw_map(found: PairMap) -> Figure:
    """Return images (circles) and texts (squares) of real pairs, and above them those of synthetic pairs, joined."""
    figure, axes = new_axes(height=4.6)
    axes.add_collection(LineCollection(found.synthetic.pairs, colors=INK, linewidths=0.7, alpha=0.45))
    looks = (("real", found.real, {"s": 9, "alpha": 0.45, "linewidths": 0}),
             ("synthetic", found.synthetic, {"s": 30, "edgecolors": INK, "linewidths": 0.7, "zorder": 3}))  # fmt: skip
    for word, side, look in looks:
        for number, name in enumerate(("images", "texts")):
            x, y = zip(*(pair[number] for pair in side.pairs), strict=True)
            axes.scatter(x, y, marker=MARKERS[number], color=COLOURS[number], label=f"{word} {name}", **look)
    for number, (axis, share) in enumerate(zip((axes.xaxis, axes.yaxis), found.variance, strict=True), start=1):
        axis.set_label_text(f"principal component {number} ({share:.0f} %)")
    axes.set_aspect("equal", adjustable="datalim")
    legend = axes.legend(ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0), columnspacing=1.2, handletextpad=0.4)
    for handle in legend.legend_handles:
        assert isinstance(handle, PathCollection)
        handle.set(sizes=[max(handle.get_sizes()[0], 18)], alpha=max(handle.get_alpha() or 1.0, 0.8))
    return figure
