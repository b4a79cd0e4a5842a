"""How the tests check annotations: by beartype, taking a whole number for a float as mypy does."""

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
