"""Font families that have the glyphs of a text."""

from functools import cache

from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font

from engine.io.terminal import echo

FIRST = "DejaVu Sans"
"""The family of matplotlib itself, which has Latin, Greek, Cyrillic, Arabic and many symbols."""
_BOXES = "Last Resort"
"""How the name of a font begins that has a box for every character."""
_reported: list[str] = []


def with_glyphs(text: str) -> list[str]:
    """Return families of which each next one has characters of ``text`` that those before it lack, ``FIRST`` first.

    Once a process, one line at the terminal says which characters no font on this machine has.
    """
    families, missing = [FIRST], {letter for letter in text if letter.isprintable()} - _letters(FIRST)
    plain = {font.name for font in fontManager.ttflist if font.style == "normal" and font.weight in (400, "normal")}
    for family in sorted(plain) if missing else ():
        if not family.startswith(_BOXES) and (found := missing & _letters(family)):
            families.append(family)
            missing -= found
    if missing and not _reported:
        _reported.append("".join(sorted(missing)[:10]))
        echo(
            f"before_after.png: no font on this machine has {len(missing)} of the captions' characters (such as "
            f"{_reported[0]}), which are drawn as boxes; captions.tsv has them, and a font such as Noto Sans CJK would."
        )
    return families


@cache
def _letters(family: str) -> frozenset[str]:
    """Return the characters of the font that matplotlib draws a family in."""
    try:
        file = findfont(FontProperties(family=family), fallback_to_default=False)
        return frozenset(map(chr, get_font(file).get_charmap()))
    except (ValueError, OSError, RuntimeError):  # a font that was deleted, or cannot be drawn
        return frozenset()
