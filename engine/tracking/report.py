"""The tables of finished studies, read from a storage folder."""

from pathlib import Path

from engine.tracking import table


def render(storage: Path, *, name: str | None = None) -> str:
    """Return the tables of the finished studies called ``name`` (None: all), the newest last, each under its folder.

    Raises:
        FileNotFoundError: there is none.
    """
    pattern = f"{name or '*'}-*/table.json"
    files = sorted((storage / "studies").glob(pattern), key=lambda file: file.stat().st_mtime)
    if not files:
        raise FileNotFoundError(f"{storage / 'studies'}: no finished study of {name or 'any space'} is here.")
    return "\n".join(f"{file.parent}\n{table.render_text(table.read(file))}" for file in files)
