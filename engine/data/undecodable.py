"""The error of photos that cannot be decoded, which names all of them."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from engine.io.sentences import listed


class UndecodableError(ValueError):
    """Files that are no images; ``reasons`` holds why, by file."""

    reasons: Mapping[Path, str]

    @classmethod
    def of(cls, reasons: Mapping[Path, str], *, among: int = 1) -> "UndecodableError":
        """Return the error that names one file, or the number of several, of ``among``, and the first five."""
        found = [f"{file} ({reason})" for file, reason in reasons.items()]
        sentence = f"{len(found):,} of {among:,} images cannot be decoded: {listed(found)}."
        if len(found) == 1:
            ((file, reason),) = reasons.items()
            sentence = f"{file}: expected an image, but it cannot be decoded ({reason})."
        error = cls(sentence)
        error.reasons = reasons
        return error


@contextmanager
def all_named(*, among: int) -> Iterator[Callable[[], AbstractContextManager[None]]]:
    """Yield what catches the errors of each part of some work; one error of all parts is raised at the end.

    Raises:
        UndecodableError: files of any part, of ``among`` in all, are not images that can be decoded.
    """
    reasons: dict[Path, str] = {}

    @contextmanager
    def part() -> Iterator[None]:
        try:
            yield
        except UndecodableError as error:
            reasons.update(error.reasons)

    yield part
    if reasons:
        raise UndecodableError.of(reasons, among=among)
