"""Split captions of any script into terms: words, and runs of characters where a script has no blanks between words."""

import re
import unicodedata
from collections.abc import Callable
from functools import cache

Analyzer = Callable[[str], list[str]]

UNSPACED = (
    "\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u1950-\u19df\u1a20-\u1aaf\u1b00-\u1b7f"  # Thai to Burmese, Khmer, Tai
    "\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3031-\u303c\u3040-\u312f\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf"
    "\u4e00-\ua63f\ua980-\ua9ff\uaa60-\uaadf\uf900-\ufaff\uff66-\uff9f\U00016fe0-\U0001b2ff\U00020000-\U0003ffff"
)
"""Ranges of scripts that are written without blanks between words, Han, kana, Yi and Vai among them."""


@cache
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str], re.Pattern[str]]:
    """Return patterns of characters that ``\\w`` does not split correctly, of words, and of an unspaced character.

    ``\\w`` holds no vowel signs and accents of their own (category M), and so cuts Hindi or Thai words at each.
    """
    marks = [chr(code) for code in range(0x20000) if unicodedata.category(chr(code))[0] == "M"]
    inner = "".join(map(re.escape, marks)) + "\u200c\u200d"  # the joiners of Persian and Indian words
    return (
        re.compile(f"[{inner}{UNSPACED}]"),
        re.compile(rf"(?P<unspaced>(?:(?=\w)[{UNSPACED}][{inner}]*)+)|(?:(?![{UNSPACED}])\w[{inner}]*)+"),
        re.compile(f"[^{inner}][{inner}]*"),
    )


def _needs_unicode(text: str) -> bool:
    """Return whether ``text`` has characters at which splitting by ``\\w`` alone goes wrong; Latin text has none."""
    return not text.isascii() and _patterns()[0].search(text) is not None  # the search alone takes 0.2 ms a caption


def analyzer(ngrams: int) -> Analyzer:
    """Return the function from a caption to its terms: runs of 1 to ``ngrams`` words of two letters or more.

    Scripts without blanks give runs of 1 to ``ngrams`` + 1 characters, each with its vowel signs.
    """
    from sklearn.feature_extraction.text import CountVectorizer

    latin: Analyzer = CountVectorizer(ngram_range=(1, ngrams)).build_analyzer()
    joined: Analyzer = CountVectorizer(
        ngram_range=(1, ngrams), tokenizer=str.split, token_pattern=None, lowercase=False
    ).build_analyzer()

    def terms(text: str) -> list[str]:
        if not _needs_unicode(text):
            return latin(text)
        _, pattern, character = _patterns()
        words, runs = list[str](), list[str]()
        for match in pattern.finditer(unicodedata.normalize("NFC", text.lower())):
            if match["unspaced"] is None:
                words += [match[0]] if len(match[0]) > 1 else []
                continue
            parts = character.findall(match[0])
            for length in range(1, ngrams + 2):
                runs += ["".join(parts[at : at + length]) for at in range(len(parts) - length + 1)]
        return joined(" ".join(words)) + runs

    return terms
