"""The report as Markdown, with its figures as files beside it."""

from collections.abc import Sequence

from engine.report.drawings import of_studies, of_study
from engine.report.facts import commands, facts, state
from engine.report.figures import Drawing
from engine.report.page import trial_table
from engine.report.study import Study
from engine.results import published
from engine.results.render import escaped, markdown_table, render_markdown


def markdown(studies: Sequence[Study], *, folder: str | None = None) -> tuple[str, dict[str, bytes]]:
    """Return the report, and the files of its figures by their names in ``folder``; no figures without a folder."""
    files: dict[str, bytes] = {}
    parts = [f"# {len(studies)} studies" if len(studies) > 1 else f"# {studies[0].name}"]
    if folder and len(studies) > 1:
        parts += _figures(of_studies(studies), folder, "all", files)
    for study in studies:
        parts += [f"## {study.folder.name}"] if len(studies) > 1 else []
        parts += [f"**{state(study)}**"] if not study.rows else [render_markdown(study.rows).rstrip()]
        parts += [published.render_markdown(study.published).rstrip()] if study.published else []
        parts.append("\n".join(f"- {name}: {escaped(text)}" for name, text in facts(study).items()))
        if study.audit:
            parts += ["What the set kept and lost:", "\n".join(f"- {line}" for line in study.audit.sentences())]
            parts.append(study.audit.markdown())
        if folder:
            parts += _figures(of_study(study), folder, study.folder.name, files)
        titles, trials = trial_table(study)
        if trials:
            parts.append(
                markdown_table(titles, [dict(zip(titles, cells, strict=True)) for cells in trials], corner="trial")
            )
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
