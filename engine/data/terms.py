"""Licence and terms of the photos of known data sets, for the card of a set that was distilled from them."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple


class Terms(NamedTuple):
    """The name of the source, its licence as Hugging Face spells it, and its terms in a sentence or two."""

    source: str
    licence: str
    sentence: str


_KNOWN = {
    r"flickr[-_]?8k": (
        "Flickr8k",
        "Flickr8k (Hodosh, Young and Hockenmaier, 2013) is given out for non-commercial research and education; the "
        "photos belong to the people who put them on Flickr.",
    ),
    r"flickr[-_]?30k": (
        "Flickr30k",
        "Flickr30k (Young, Lai, Hodosh and Hockenmaier, 2014) is given out for non-commercial research and education; "
        "the photos are under Flickr's terms of use and belong to the people who put them there.",
    ),
    r"(ms[-_]?)?coco([-_]?20\d\d)?": (
        "COCO",
        "COCO's captions are under CC BY 4.0 (COCO Consortium); the photos are under Flickr's terms of use, each under "
        "the licence that its owner chose.",
    ),
}
"""Source and terms of the photos whose folder or annotations have a name of this pattern."""


def terms_of(data: Mapping[str, Any] | None) -> Terms:
    """Return the terms of the data set that a section ``data`` describes; None: of a set without such a section.

    Known photos are found by the name of their folder or annotations. The licence is ``unknown`` for all others.
    """
    if data is None:
        return Terms("a data set that was not recorded", "unknown", "The terms of the source photos were not recorded.")
    if data.get("name") == "shapes":
        drawn = "There are no photos: vldistill (Apache-2.0) drew the scenes and wrote the captions."
        return Terms("the drawn world of vldistill", "apache-2.0", drawn)
    places = [Path(str(data.get(key) or "")).name.lower() for key in ("root", "name", "annotations", "table")]
    for pattern, (source, terms) in _KNOWN.items():
        if any(re.search(rf"(?<![a-z0-9]){pattern}(?![a-z0-9])", place) for place in places):
            return Terms(source, "other", f"{terms} What was learned from them is passed on under the same terms.")
    folder = places[0] or places[1]
    return Terms(
        folder, "unknown", f"The terms of the photos of {folder} were not stated: ask their publisher for them."
    )
