"""Random damage of files, by seeds that are new in every run and printed, so that a run can be repeated."""

import os
import time
from collections import Counter
from collections.abc import Callable
from random import Random, SystemRandom

from tests.fuzz.mutations import refused_in_a_sentence

VARIABLE = "VLDD_FUZZ_SEED"
SEED = os.environ.get(VARIABLE) or str(SystemRandom().randrange(10**9))
MUTATIONS = 2_000
LIMIT_S = 20.0
"""Seconds that one damaged file may take, on a machine that does other things too."""

_BORDERS = (b"\0", b"\xff", b"\x7f", b"\x80", b"\0\0", b"\xff\xff", b"\xff\xff\xff\x7f", b"\xff" * 8, b"-1", b"9" * 9)
_WAYS = ("bit", "bit", "byte", "border", "letter", "letter", "letter", "cut", "put", "drop", "copy", "zero")
_LETTERS = b'0123456789-.{}[],:;" \n\r\t|aeFINnul'


def damaged(data: bytes, random: Random) -> bytes:
    """Return bytes of which a few are changed, cut off, put in, moved or left out, more often near the beginning."""
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 2, 5, 20))):
        reach = random.choice((len(changed), len(changed), min(len(changed), 64)))
        at = random.randrange(max(reach, 1))
        match random.choice(_WAYS):
            case "bit" if changed:
                changed[at] ^= 1 << random.randrange(8)
            case "byte" if changed:
                changed[at] = random.randrange(256)
            case "border":
                border = random.choice(_BORDERS)
                changed[at : at + len(border)] = border
            case "letter" if changed:
                changed[at] = random.choice(_LETTERS)
            case "cut" if random.random() < 0.3:
                del changed[at:]
            case "put":
                changed[at:at] = random.randbytes(random.randrange(1, 9))
            case "drop":
                del changed[at : at + random.randrange(1, 40)]
            case "copy":
                begin = random.randrange(max(len(changed), 1))
                changed[at:at] = changed[begin : begin + random.randrange(1, 40)]
            case "zero":
                changed[at : at + 8] = bytes(len(changed[at : at + 8]))
    return bytes(changed)


def try_many(kind: str, spoil: Callable[[Random], None], read: Callable[[], object], *, count: int = MUTATIONS) -> None:
    """Spoil and read ``count`` times: each time a right result or one sentence, and in time.

    ``spoil`` writes the files with the given generator, and ``read`` reads them and asserts that the result is right.
    """
    outcomes: Counter[bool] = Counter()
    for number in range(count):
        started = time.monotonic()
        try:
            spoil(Random(f"{SEED}/{kind}/{number}"))
            outcomes[refused_in_a_sentence(read)] += 1
            assert time.monotonic() - started < LIMIT_S, "it took too long"
        except BaseException as error:  # a timeout of pytest's too
            error.add_note(f"mutation {number} of {kind}; {VARIABLE}={SEED} repeats it")
            raise
    assert outcomes[True] > 0, f"{kind} with {VARIABLE}={SEED}: nothing was refused"
