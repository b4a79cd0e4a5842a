"""The table of a study that is finished, without importing what runs one."""

from engine.io.progress import echo
from engine.provenance import provenance
from engine.results.files import REPORT, read_students, read_table
from engine.results.history import BEST_SET
from engine.results.row import Row
from engine.studies.begun import files_changed
from engine.studies.job import Job, conclude


def show(job: Job) -> list[Row]:
    """Print the table of a finished study, and whether other code computed it, and return it."""
    rows = read_table(job.folder)
    echo(finished_sentence(rows))
    if files_changed(job):
        echo("Files of its data have changed since: these are the numbers of before (--fresh computes them again).")
    print_table(job, rows)
    return rows


def print_table(job: Job, rows: list[Row]) -> None:
    """Print the table of a study, what other students get, the files of its set and report, and how to see its runs."""
    files = {"synthetic set": job.folder / BEST_SET, "report": job.folder / REPORT}
    students = read_students(job.folder)
    others = [f"{row.name}: mean recall {row.mean['mean_recall']:.1f}, {_recovery(row)}" for row in students]
    if any(row.recovery is None for row in students):
        others.append("evaluate --students FILE.yaml trains the student that the file describes on all pairs, too.")
    conclude(job, rows, *others, *(f"{name + ':':<15} {file}" for name, file in files.items() if file.exists()))


def _recovery(row: Row) -> str:
    return "recovery not known" if row.recovery is None else f"{row.recovery:.1f} % of that of all pairs"


def finished_sentence(rows: list[Row]) -> str:
    """Return the line above the table of a finished study; it says if other code than today's computed any number."""
    now = provenance()
    others = [one.commit or "a commit not recorded" for row in rows for one in row.made_by
              if one.commit is None or one.numbers != now.get("numbers")]  # fmt: skip
    if not others:
        return "This study is finished, and this is its table (--fresh starts over)."
    return (
        f"This study is finished; its table was computed by {' and '.join(dict.fromkeys(others))}, this is "
        f"{now['commit']} (--fresh computes it again)."
    )
