"""A report as text, as Markdown, and as a file of the format that is asked for."""

from collections.abc import Sequence

from engine.io.files import atomic_path
from engine.io.storage import Location
from engine.report import tables
from engine.report.drawings import of_studies, of_study
from engine.report.facts import commands, facts, state
from engine.report.figures import Drawing
from engine.report.page import html, trial_table
from engine.report.study import Study, read_study
from engine.results import published
from engine.results.files import REPORT
from engine.results.render import escaped, markdown_table, render_markdown, render_text, wrapped

FORMATS = ("text", "md", "csv", "json", "parquet", "latex", "html")


def text(studies: Sequence[Study]) -> str:
    """Return the tables as aligned text, each with its published rows; an unfinished study says how far it is."""
    parts = []
    for study in studies:
        shown = render_text(study.rows) if study.rows else "\n".join([*wrapped([state(study)]), ""])
        parts.append(f"{study.folder}\n{shown}")
        if study.students:
            parts.append(f"other students:\n{render_text(study.students)}")
        if study.audit:
            parts.append("\n".join([*wrapped(study.audit.sentences()), ""]))
        if study.published:
            parts.append(published.render_text(study.published))
    return "\n".join(parts)


def markdown(studies: Sequence[Study], *, folder: str | None = None) -> tuple[str, dict[str, bytes]]:
    """Return the report, and the files of its figures by their names in ``folder``; no figures without a folder."""
    files: dict[str, bytes] = {}
    parts = [f"# {len(studies)} studies" if len(studies) > 1 else f"# {studies[0].name}"]
    if folder and len(studies) > 1:
        parts += _figures(of_studies(studies), folder, "all", files)
    for study in studies:
        parts += [f"## {study.folder.name}"] if len(studies) > 1 else []
        parts += [f"**{state(study)}**"] if not study.rows else [render_markdown(study.rows).rstrip()]
        parts += ["Other students:", render_markdown(study.students).rstrip()] if study.students else []
        parts += [published.render_markdown(study.published).rstrip()] if study.published else []
        parts.append("\n".join(f"- {name}: {escaped(said)}" for name, said in facts(study).items()))
        if study.audit:
            parts += ["What the set kept and lost:", "\n".join(f"- {line}" for line in study.audit.sentences())]
            parts.append(study.audit.markdown())
        if folder:
            parts += _figures(of_study(study), folder, study.folder.name, files)
        titles, trials = trial_table(study)
        if trials:
            parts.append(markdown_table(titles, trials))
        if made := commands(study):
            lines = "\n".join(f"# {name}\n{command}" for name, command in made)
            parts.append(f"The command of each row:\n\n```sh\n{lines}\n```")
    return "\n\n".join(parts) + "\n", files


def _figures(drawings: Sequence[Drawing], folder: str, prefix: str, files: dict[str, bytes]) -> list[str]:
    """Return figures as links with captions and, for pairs, the captions of these; add their files to ``files``."""
    parts = []
    for number, one in enumerate(drawings, start=1):
        caption = f"Figure {number}. {escaped(one.caption)}"
        if one.file is not None:
            name = f"{prefix}-{one.file[0]}"
            files[name] = one.file[1]
            parts.append(f"![{one.name}]({folder}/{name})\n\n{caption}")
        lines = []
        for pair in one.pairs:
            said = [f"{side}: {escaped(text)}" if side else escaped(text) for side, text in pair.captions.items()]
            lines.append(f"{pair.number}. {'; '.join(said)}")
        parts += ["\n".join(lines)] if lines else []
    return parts


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
    write([read_study(folder)], "html", folder / REPORT)
    return folder / REPORT
