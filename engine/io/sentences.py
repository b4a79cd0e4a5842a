"""Parts of error sentences: values and lists cut to one line, and the known name that was probably meant."""

import difflib
from collections.abc import Collection, Iterable, Sequence
from typing import Any

LONGEST = 80
LISTED = 5


def shown(value: Any) -> str:
    """Return ``value`` on one line, with true, false and null as in YAML, shortened to 80 characters."""
    try:
        text = str(value).lower() if isinstance(value, bool) else "null" if value is None else repr(value)
    except (ValueError, RecursionError):  # Python refuses to print integers of thousands of digits, and deep nesting
        text = f"a {type(value).__name__} too long to print"
    return cut(text)


def cut(text: str) -> str:
    """Return ``text`` on one line, shortened to 80 characters."""
    line = " ".join(text.split()) if "\n" in text else text
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 3]}..."


def listed(items: Sequence[str]) -> str:
    """Return the first five of ``items`` after each other, and the number of the others."""
    more = f" and {len(items) - LISTED:,} more" if len(items) > LISTED else ""
    return f"{', '.join(items[:LISTED])}{more}"


def counted(items: Sequence[str], noun: str) -> str:
    """Return the number of ``items`` with what they are, ``noun`` and further words, and the first five of them."""
    word, _, rest = noun.partition(" ")
    many = rest if len(items) == 1 else rest.replace("that is", "that are")
    return f"{len(items):,} {word}{'s' * (len(items) != 1)}{' ' * bool(rest)}{many} ({listed(items)})"


def nearest(name: str, known: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """Return the known name most similar to ``name``, or None."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)
    return close[0] if close else None


def meant(name: str, known: Sequence[str], given: Collection[str]) -> str | None:
    """Return the known word that ``name``, one of the words ``given``, is a misspelling of, or None.

    It differs only by case, blanks and signs, or it is similar to a known word that is not given.
    """
    if name in known:
        return None
    plain = "".join(filter(str.isalnum, name)).casefold()
    return plain if plain in known else nearest(plain, [word for word in known if word not in given], cutoff=0.8)
