"""One self-contained HTML page for one study or many: no script, no outside address, light and dark."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from engine.provenance import commit
from engine.report.drawings import of_studies, of_study
from engine.report.facts import commands, facts, metric, plain, state
from engine.report.figures import prefixed
from engine.report.study import Study
from engine.results.audit import LEGEND, TITLES
from engine.results.published import TITLE, as_row, sources
from engine.results.render import BOLD, LONG, MISSING, RECALLS, cells_below, largest_cells, remarks, row_cells
from engine.tracking.pictures import SMALL_PX


def html(studies: Sequence[Study]) -> bytes:
    """Return the page of one study, or of many with what they have in common first."""
    several = len(studies) > 1
    sections = [_section(study, anchor=f"study-{number}", table=number + several)
                for number, study in enumerate(studies, start=1)]  # fmt: skip
    small = all(study.get("data.image_px", 224) < SMALL_PX for study in studies)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    page = environment.get_template("page.html").render(
        title=f"{len(studies)} studies" if several else studies[0].name,
        subtitle=f"Report of vldistill, made by {commit()}. Results as of {studies[-1].written:%Y-%m-%d %H:%M} UTC.",
        sections=sections,
        overview_titles=["study", "state", "method", "pairs", "mean", "recovery %", "commit"],
        overview=[_overview(study) for study in studies],
        figures=of_studies(studies) if several else [],
        titles=LONG,
        group_titles=TITLES,
        group_legend=LEGEND,
        published_title=TITLE,
        published_titles=RECALLS,
        bold_legend=BOLD,
        rendering="pixelated" if small else "auto",
    )
    return page.encode()


def _overview(study: Study) -> list[str]:
    """Return the line of a study in the table of all."""
    own = study.rows[0] if study.rows else None
    cells = row_cells(own) if own else {}
    made_by = own.made_by[0].commit if own and own.made_by else None
    return [
        study.name,
        "finished" if own else "not finished",
        str(own.name if own else study.get("method.name", MISSING)),
        str(own.pairs if own else study.get("method.num_pairs", MISSING)),
        cells.get("mean", MISSING),
        cells.get("recovery %", MISSING),
        made_by or MISSING,
    ]


def _section(study: Study, *, anchor: str, table: int) -> dict[str, Any]:
    """Return what the template shows of one study."""
    titles, trials = trial_table(study)
    return {
        "anchor": anchor,
        "table": table,
        "title": f"{study.name} ({study.folder.name.rpartition('-')[2]})",
        "finished": bool(study.rows),
        "state": state(study),
        "facts": {name: said for name, said in facts(study).items() if study.rows or name != "State"},
        "rows": cells_below(LONG, study.rows),
        "bold": largest_cells(study.rows),
        "remarks": remarks(study.rows),
        "students": cells_below(LONG, study.students),
        "student_remarks": remarks(study.students),
        "published": cells_below(RECALLS, [*map(as_row, study.published)]),
        "sources": sources(study.published),
        "figures": [replace(one, svg=prefixed(one.svg, anchor)) for one in of_study(study)],
        "audit": study.audit.sentences() if study.audit else [],
        "groups": study.audit.table() if study.audit else [],
        "metric": metric(study),
        "trial_titles": titles,
        "trials": trials,
        "commands": commands(study),
        "yaml": study.yaml,
    }


def trial_table(study: Study) -> tuple[list[str], list[list[str]]]:
    """Return the titles and the cells of the table of trials; no cells for a single trial without a search."""
    keys = list(dict.fromkeys(key for trial in study.trials for key in trial.history.searched))
    titles = ["trial", "best on val", "outer steps", "time", *keys, "ended"]
    if len(study.trials) < 2 and not keys:
        return titles, []
    planned, lines = study.get("budget.outer_steps", 0), []
    for trial in study.trials:
        ended = "at its end" if trial.outer_steps >= planned else "early" if study.rows else "not yet, or early"
        ended = f"by a failure: {trial.history.failure}" if trial.history.failure else ended
        kept = " (kept)" if trial is study.best else ""
        best = MISSING if trial.best is None else f"{trial.best:.1f}{kept}"
        values = [plain(trial.history.searched.get(key, MISSING)) for key in keys]
        lines.append([trial.name, best, str(trial.outer_steps), f"{trial.seconds:.0f} s", *values, ended])
    return titles, lines
