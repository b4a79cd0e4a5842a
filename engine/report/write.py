"""Rendering and writing a report in the format that is asked for."""

from collections.abc import Sequence
from typing import Literal, get_args

from engine.io.files import atomic_path
from engine.io.storage import Location
from engine.report import tables
from engine.report.facts import state
from engine.report.markdown import markdown
from engine.report.page import NAME, html
from engine.report.study import Study, read_study
from engine.results import published
from engine.results.render import render_text, wrapped

Format = Literal["text", "md", "csv", "json", "parquet", "latex", "html"]
FORMATS: tuple[str, ...] = get_args(Format)


def text(studies: Sequence[Study]) -> str:
    """Return the tables as aligned text, each with its published rows; an unfinished study says how far it is."""
    parts = []
    for study in studies:
        shown = render_text(study.rows) if study.rows else "\n".join([*wrapped([state(study)]), ""])
        parts.append(f"{study.folder}\n{shown}")
        if study.audit:
            parts.append("\n".join([*wrapped(study.audit.sentences()), ""]))
        if study.published:
            parts.append(published.render_text(study.published))
    return "\n".join(parts)


def rendered(studies: Sequence[Study], form: str) -> bytes:
    """Return a report as the bytes of one file; Markdown has no figures then, and LaTeX only studies with rows."""
    match form:
        case "text":
            return text(studies).encode()
        case "md":
            return markdown(studies)[0].encode()
        case "html":
            return html(studies)
        case "latex":
            return "\n".join(tables.latex(study) for study in studies if study.rows).encode()
    return tables.as_file(studies, form)


def write(studies: Sequence[Study], form: str, file: Location) -> None:
    """Write a report; the figures of Markdown go into a folder beside it."""
    if form == "md":
        folder = f"{file.stem}_figures"
        said, figures = markdown(studies, folder=folder)
        files = {file.parent / folder / name: data for name, data in figures.items()} | {file: said.encode()}
    else:
        files = {file: rendered(studies, form)}
    for place, data in files.items():
        with atomic_path(place) as temporary:
            temporary.write_bytes(data)


def write_page(folder: Location) -> Location:
    """Write the page of one study into its folder, and return its file."""
    write([read_study(folder)], "html", folder / NAME)
    return folder / NAME
