"""Rows of published tables, as spaces, tables and finished studies hold them."""

from typing import Annotated, Literal

from pydantic import Field, ValidationError

from engine.config.errors import ConfigError
from engine.config.spaces import read_space
from engine.config.strict import Name, Strict
from engine.io.sentences import shown
from engine.io.storage import Location, as_file
from engine.ranges import Count

Recall = Literal["IR1", "IR5", "IR10", "TR1", "TR5", "TR10", "mean_recall"]
Percent = Annotated[float, Field(ge=0, le=100)]


class Recalls(Strict):
    """A row of a published table: recalls in percent, with ``std`` if the source has it."""

    name: Name
    pairs: Count
    mean: dict[Recall, Percent] = Field(min_length=1)
    std: dict[Recall, Percent] = Field(default_factory=dict)


class Published(Recalls):
    """A published row with its source; ``protocol`` is a short description of how it was scored.

    Reports print such rows below ours; they change no run.
    """

    source: Name
    protocol: Name


class PublishedTable(Strict):
    """Published rows that share their source and protocol."""

    source: Name
    protocol: Name
    recalls: list[Recalls] = Field(min_length=1)

    def rows(self) -> list[Published]:
        """Return the rows with source and protocol."""
        shared = {"source": self.source, "protocol": self.protocol}
        return [Published.model_validate({**row.model_dump(), **shared}) for row in self.recalls]


def published_in(path: Location) -> list[Published]:
    """Return the published rows of a configuration file of any version; none if there is no file.

    Raises:
        ConfigError: the file is no YAML, or its rows are not such rows.
    """
    if not path.is_file():
        return []
    with as_file(path) as file:
        rows = read_space(file)[1].get("published", [])
    try:
        return [Published.model_validate(row) for row in rows]
    except (ValidationError, TypeError) as error:
        raise ConfigError(f"{path}: published holds {shown(rows)}, expected rows of a published table.") from error
