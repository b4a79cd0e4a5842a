"""The table of one study or many as a data frame, CSV, JSON, Parquet and LaTeX."""

import io
from collections.abc import Callable, Sequence

import polars

from engine.report.facts import command
from engine.report.study import Study
from engine.results.files import flat
from engine.results.published import TITLE, as_row
from engine.results.render import RECALLS, largest_cells, remarks, row_cells
from engine.results.row import METRICS, Row

_WHOLE = ("pairs", "seeds", "size", "memory")
_NUMBERS = ("recovery", "robustness", "learning_rate", "seconds", *METRICS, *(f"{key}_std" for key in METRICS))
_TRUTHS = ("full", "published", "unseen")


def frame(studies: Sequence[Study]) -> polars.DataFrame:
    """Return the rows of all studies, each with its study, its folder and its command.

    Below are rows of other students and published ones. Recalls are in percent, times in seconds, sizes in bytes;
    ``published`` rows were not run here.
    """
    lines = []
    for study in studies:
        of_study = {"study": study.name, "folder": str(study.folder)}
        lines += [{**of_study, **flat(row), "published": False, "command": command(study, row)} for row in study.rows]
        lines += [{**of_study, **flat(row), "published": False, "command": ""} for row in study.students]
        lines += [{**of_study, **flat(as_row(row)), "published": True, "command": ""} for row in study.published]
    names = list(dict.fromkeys(["study", "folder", *flat(Row(name="", pairs=0, mean={})), "published", "command"]))
    kinds = {**dict.fromkeys(names, polars.String), **dict.fromkeys(_WHOLE, polars.Int64),
             **dict.fromkeys(_NUMBERS, polars.Float64), **dict.fromkeys(_TRUTHS, polars.Boolean)}  # fmt: skip
    return polars.DataFrame(lines, schema={name: kinds[name] for name in names}, orient="row", strict=False)


def as_file(studies: Sequence[Study], form: str) -> bytes:
    """Return the table as CSV in UTF-8, as JSON (a list with an object for each row), or as Parquet."""
    table, target = frame(studies), io.BytesIO()
    write: dict[str, Callable[[io.BytesIO], object]] = {
        "csv": table.write_csv,
        "json": table.write_json,
        "parquet": table.write_parquet,
    }
    write[form](target)
    return target.getvalue()


_ESCAPES = {
    "\\": r"\textbackslash{}", "±": r"$\pm$", "≤": r"$\leq$", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    **{letter: rf"\{letter}" for letter in "&%$#_{}"},
}  # fmt: skip


def escaped(text: str) -> str:
    """Return a text as LaTeX writes it."""
    return "".join(_ESCAPES.get(letter, letter) for letter in text)


def latex(study: Study) -> str:
    """Return the rows of a study as a table environment, which needs the package booktabs."""
    titles = [*RECALLS, "recovery %"]
    bold = largest_cells(study.rows)
    lines = [_line([_cell(cells, title, bold=(index, title) in bold) for title in titles])
             for index, cells in enumerate(map(row_cells, study.rows))]  # fmt: skip
    if study.published:
        lines += [r"\midrule", rf"\multicolumn{{{len(titles)}}}{{l}}{{\emph{{{escaped(TITLE)}}}}} \\"]
        lines += [_line([_cell(row_cells(as_row(row)), title) for title in titles]) for row in study.published]
    sources = dict.fromkeys(f"{row.name}: {row.source}; {row.protocol}." for row in study.published)
    legend = ["Bold is the largest mean among sets with as many pairs."] if bold else []
    caption = [f"Recalls on test in percent, {study.name}.", *remarks(study.rows), *legend, *sources]
    return "\n".join(
        [
            "% needs \\usepackage{booktabs}",
            r"\begin{table}",
            r"\centering",
            rf"\begin{{tabular}}{{l{'r' * (len(titles) - 1)}}}",
            r"\toprule",
            _line([escaped(title) for title in titles]),
            r"\midrule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
            rf"\caption{{{escaped(' '.join(one.rstrip('.') + '.' for one in caption))}}}",
            rf"\label{{tab:{study.folder.name}}}",
            r"\end{table}",
            "",
        ]
    )


def _cell(cells: dict[str, str], title: str, *, bold: bool = False) -> str:
    text = escaped(cells[title].replace("±", " ± ")) if cells[title] != "-" else "--"
    return rf"\textbf{{{text}}}" if bold else text


def _line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"
