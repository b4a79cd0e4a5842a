"""What a synthetic set kept and lost of its data: an audit as a file, in sentences and as a table."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from engine.io.storage import Location
from engine.results.kept import read_kept, write_kept
from engine.results.render import markdown_table

AUDIT = "audit.json"
DRAWS = 50
"""Draws of random captions that shares and coverage are compared with."""
LEGEND = (
    f"A caption counts where it has an English word of the group; ± is the standard deviation over {DRAWS} draws of as "
    "many random captions. Found: the image of a test caption with such a word is among the first ten (mean over "
    "students)."
)
NO_GROUPS = "No training caption has an English word for people, animals or colours."
TITLES = ("words for", "% of training captions", "% of this set's", "% of random ones", "test captions",
          "% found by the set's students", "% by those of all pairs")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Share:
    """A share in percent of all training captions, of a set's, and of as many random ones (mean and deviation)."""

    everywhere: float
    kept: float
    random: float
    random_std: float


@dataclass(frozen=True, kw_only=True)
class Group:
    """Captions with a word of one group; what students find of the ``queries`` captions of test among them.

    ``found`` and ``found_by_all`` are percent of these, by students of the set and of all pairs; None: not known.
    """

    name: str
    share: Share
    queries: int
    found: float | None = None
    found_by_all: float | None = None


@dataclass(frozen=True, kw_only=True)
class Nearest:
    """The nearest real photo of every pair: its name, and the bits of 256 in which perceptual hashes differ.

    ``alike`` is the number of bits up to which two photos count as looking alike.
    """

    names: Sequence[str]
    bits: Sequence[int]
    alike: int


@dataclass(frozen=True, kw_only=True)
class Shown:
    """Images to look at (WebP in base64, by what each is) and what is said below them."""

    images: dict[str, str]
    text: str


@dataclass(frozen=True, kw_only=True)
class Recalls:
    """Captions of test whose image is found: by students of the set and of all pairs, of these alone, and of the set's.

    ``still`` and ``gone`` show some that are kept, and some that are lost.
    """

    queries: int
    kept: int
    lost: int
    gained: int
    still: Sequence[Shown] = ()
    gone: Sequence[Shown] = ()


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What a set kept and lost; ``coverage`` is of the words of all training captions, weighted by their use.

    ``copies`` shows the pairs whose images are nearest to a photo.
    """

    pairs: int
    captions: int
    words: int
    coverage: Share
    groups: Sequence[Group]
    nearest: Nearest
    copies: Sequence[Shown] = field(default=())
    recalls: Recalls | None = None

    def sentences(self) -> list[str]:
        """Return coverage, likeness to photos and what students find in words."""
        bits, cover = sorted(self.nearest.bits), self.coverage
        alike = sum(one <= self.nearest.alike for one in bits)
        found = [
            f"Words: the captions nearest to its {self.pairs:,} texts hold words that make up {cover.kept:.1f} % of "
            f"all use of words in the {self.captions:,} training captions ({self.words:,} different words); as many "
            f"random captions hold {cover.random:.1f} ± {cover.random_std:.1f} %.",
            f"Copies: {alike:,} of {len(bits):,} images look like a training image: at most {self.nearest.alike} of "
            f"the 256 bits of their perceptual hashes differ (median of the nearest: {bits[len(bits) // 2]}).",
        ]
        if self.recalls is not None:
            one = self.recalls
            found.append(
                f"Retrieval: of {one.queries:,} test captions, students of all pairs find the image of "
                f"{one.kept + one.lost:,} among the first ten, students of the set that of {one.kept + one.gained:,}: "
                f"{one.kept:,} are kept, {one.lost:,} lost, and {one.gained:,} found by the set's alone. A caption "
                "counts as found where at least half of the students find it."
            )
        return found

    def table(self) -> list[list[str]]:
        """Return the cells of the groups below ``TITLES``; groups that no training caption has are left out."""
        lines = []
        for one in (group for group in self.groups if group.share.everywhere > 0):
            shares = [f"{one.share.everywhere:.1f}", f"{one.share.kept:.1f}"]
            found = ["-" if share is None else f"{share:.1f}" for share in (one.found, one.found_by_all)]
            random = f"{one.share.random:.1f}±{one.share.random_std:.1f}"
            lines.append([one.name, *shares, random, f"{one.queries:,}", *found])
        return lines

    def markdown(self) -> str:
        """Return the table with its legend as Markdown; a sentence where no training caption has such words."""
        lines = self.table()
        return f"{markdown_table(TITLES, lines)}\n\n{LEGEND}" if lines else NO_GROUPS


def write_audit(folder: Location, audit: Audit) -> None:
    """Write an audit as JSON into the folder of its set."""
    write_kept(folder / AUDIT, audit)


def read_audit(folder: Location) -> Audit | None:
    """Read what ``write_audit`` wrote; None where it wrote nothing.

    Raises:
        ValueError: the file is damaged, or of another format version.
    """
    return read_kept(folder / AUDIT, Audit, called="the audit of a set")
