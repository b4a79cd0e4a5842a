"""The data set card of an exported set: README.md with the YAML head that Hugging Face reads."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from engine.data.terms import Terms
from engine.results.audit import Audit
from engine.results.render import RECALLS, cells_below, markdown_table, remarks
from engine.results.row import Row
from engine.synthetic.folder import DESCRIPTION, FOLDER, TABLE, TAR, TENSORS
from engine.synthetic.set import SyntheticSet

SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (math.inf, "100K<n<1M"))
TAGS = ["image-text-retrieval", "dataset-distillation", "synthetic", "vldistill"]
NEAR = 5
"""Pairs that the card lists with their nearest photos."""

USES = """\
* Not to train a general model: it holds what one kind of student needs for retrieval on one data set.
* Not as photos, or as captions of the images beside them: an image is whatever lowered a loss, and a text is a learned
  point whose nearest real caption is shown. Do not count, recognise or describe people or things by them.
* Not as anonymous data: images that were learned from photos may still look like them, and the captions are real ones.
* Not to compare methods by numbers of other students, data or protocols than those named above.
"""


def card(
    synthetic: SyntheticSet,
    name: str,
    *,
    terms: Terms,
    tar: bool,
    rows: Sequence[Row] = (),
    audit: Audit | None = None,
) -> str:
    """Return the card of a set that is exported as ``name``; ``rows`` are its scores, as far as they were computed."""
    height, width = synthetic.images.shape[2:]
    files = [{"split": "train", "path": TAR if tar else f"{FOLDER}/*"}]
    head = {
        "pretty_name": name,
        "license": terms.licence,
        **({"license_name": "terms-of-the-source-photos"} if terms.licence == "other" else {}),
        "task_categories": ["image-to-text", "text-to-image"],
        "tags": TAGS,
        "size_categories": [next(label for limit, label in SIZES if len(synthetic) < limit)],
        "configs": [{"config_name": "default", "data_files": files}],
    }
    parts = [
        f"---\n{yaml.safe_dump(head, sort_keys=False, allow_unicode=True)}---\n\n# {name}\n",
        f"{len(synthetic):,} synthetic pairs of an image ({height} x {width} px) and a text, distilled by "
        f"vldistill from {terms.source}: a student that is trained on them alone retrieves images by text and texts by "
        "image.\n",
        f"## Files\n\n{_files(synthetic, tar)}",
        f"## Source and terms\n\n{terms.sentence}\n",
        f"## How it was made\n\n{_made(synthetic.metadata)}",
        f"## Scores\n\n{_scores(synthetic, rows)}",
        f"## What it kept and lost\n\n{_kept(audit)}",
        f"## What not to use it for\n\n{USES}",
    ]
    return "\n".join(parts)


def _files(synthetic: SyntheticSet, tar: bool) -> str:
    """Return the list of files with what they hold, and how to read them."""
    shape = " x ".join(map(str, synthetic.texts.shape))
    if tar:
        pairs = [f"`{TAR}`: a WebDataset; a sample is `png`, `txt` (the caption) and `text_embedding.npy`"]
        read = f'load_dataset("webdataset", data_files="{TAR}")'
    else:
        pairs = [f"`{FOLDER}/*.png`: the images", f"`{FOLDER}/{TABLE}`: `file_name` and `text`, the caption"]
        read = 'load_dataset("imagefolder", data_dir=".")'
    rates = ", ".join(f"{modality} {rate:.4g}" for modality, rate in synthetic.learning_rates().items())
    square = "no `similarity`: image i belongs to text i alone"
    if synthetic.similarity() is not None:
        square = "`similarity`, the learned target of image i (row) and text j (column)"
    lines = [
        *pairs,
        f"`{TENSORS}`: `text_embedding` ({shape}), the learned texts in the order of the images; {square}",
        f"`{DESCRIPTION}`: the loss ({synthetic.loss}), the student's learned rates ({rates}), and the configuration",
    ]
    if (side := synthetic.tiles) > 1:
        lines.append(
            f"Each image is a mosaic of {side} x {side} tiles. In each epoch a student sees a random one, enlarged "
            "to the size of the whole image by bicubic interpolation; its text is that of all of them"
        )
    outside = float(((synthetic.images < 0) | (synthetic.images > 1)).float().mean()) * 100
    return (
        "".join(f"* {line}.\n" for line in lines)
        + "\nThe caption of a text is the real caption whose embedding is nearest to it. Pixels were learned as "
        f"floats; here they are clamped to [0, 1] ({outside:.1f} % lay outside) and rounded to 8 bits.\n\n"
        f"```python\nfrom datasets import load_dataset\n\npairs = {read}\n```\n"
    )


def _made(metadata: Mapping[str, Any]) -> str:
    """Return the method, the student with the versions of its encoders, and the commit, as far as they are recorded."""
    keys = ("made_by", "student", "experts", "budget", "published", "made_by.weights", "made_by.versions")
    made, student, experts, budget, published, weights, numbers = (_section(metadata, key) for key in keys)
    lines = [f"Method: {_options(metadata.get('method'), 'name')}"]
    for modality in ("image", "text"):
        known = f"; digest of its weights {weights[modality]}" if modality in weights else ""
        lines.append(f"{modality.capitalize()} encoder: {_options(student.get(modality), 'encoder')}{known}")
    if experts:
        steps = f"{experts.get('count')} experts in at most {budget.get('outer_steps')} outer steps"
        lines.append(f"Learned from {steps}; seed {metadata.get('seed')}")
    if published:
        lines.append(f"Imported from published code: {_options(published, 'file')}")
    if protocol := _section(metadata, "protocol"):
        lines.append(f"Protocol of its students: {_options({'name': 'SGD', **protocol}, 'name')}")
    versions = ", ".join(f"{name} {number}" for name, number in numbers.items() if number != "none")
    lines.append(f"Made by: commit {made.get('commit')}, {versions}" if made else "Made by: not recorded")
    return "".join(f"* {line}.\n" for line in lines)


def _section(tree: Any, dotted: str) -> Mapping[str, Any]:
    """Return the mapping at a dotted key, which is empty where there is none."""
    for key in dotted.split("."):
        tree = tree.get(key) if isinstance(tree, Mapping) else None
    return tree if isinstance(tree, Mapping) else {}


def _options(section: Any, key: str) -> str:
    """Return a section in words: the name of its component, and its options that are set."""
    if not isinstance(section, Mapping) or key not in section:
        return "not recorded"
    rest = {name: value for name, value in section.items() if name != key and value is not None}
    listed = yaml.safe_dump(rest, default_flow_style=True, width=math.inf, sort_keys=False, allow_unicode=True)
    return f"{section[key]} `{listed.strip()}`" if rest else str(section[key])


def _scores(synthetic: SyntheticSet, rows: Sequence[Row]) -> str:
    """Return the table of scores with the protocol, and how far 8 bits are from the floats."""
    if not rows:
        return "Not scored (`export.py --score` does, where the data and the encoders are).\n"
    lines = [markdown_table(RECALLS, cells_below(RECALLS, rows)), *remarks(rows)]
    floats, exported = rows[0], rows[1] if len(rows) > 1 else None
    if exported is None:
        lines.append("Its files here, which have 8 bits, were not scored (`export.py --score` does).")
    else:
        apart = exported.mean.get("mean_recall", math.nan) - floats.mean.get("mean_recall", math.nan)
        lines.append(f"Students of the files here have a mean recall {apart:+.2f} points from that of the floats.")
    return "\n\n".join(lines) + "\n"


def _kept(audit: Audit | None) -> str:
    """Return what an audit says, the table of its groups of words, and the images that are nearest to a photo."""
    if audit is None:
        return "Not compared with the data that it was learned from (`export.py --score` does).\n"
    bits, names = audit.nearest.bits, audit.nearest.names
    nearest = sorted(range(len(bits)), key=bits.__getitem__)[:NEAR]
    lines = [[f"{pair + 1:04d}", names[pair], str(bits[pair])] for pair in nearest]
    parts = [
        *audit.sentences(),
        audit.markdown(),
        "The images that are nearest to a training image, by the bits that differ:",
        markdown_table(["pair", "training image", "bits"], lines),
    ]
    return "\n\n".join(parts) + "\n"
