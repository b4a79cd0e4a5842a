"""What a report says of a study in words: its state, selection, cost, and the command of each row."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.report.study import CONFIGURATION, Study
from engine.results.render import duration, size_text
from engine.results.row import METRICS, Row


def state(study: Study) -> str:
    """Return whether a study is finished, and else how far it is."""
    when = f"{study.written:%Y-%m-%d %H:%M:%S} UTC"
    if study.rows:
        return f"Finished; its table was written {when}."
    tried = [trial for trial in study.trials if trial.best is not None]
    steps, planned = sum(trial.outer_steps for trial in tried), study.get("budget.outer_steps", 0)
    done = f"{len(tried)} trials validated, {steps} outer steps in all (a full trial has {planned})" if tried else (
        "no trial has been validated yet")  # fmt: skip
    best = f"; the best set so far has {metric(study)} {study.best.best:.1f} on val" if study.best else ""
    return f"Not finished: it is still running, or was interrupted. {done}{best}; last written {when}."


def metric(study: Study) -> str:
    """Return the name of the metric by which sets are chosen on val, as tables spell it."""
    name = str(study.get("budget.metric", "val/mean_recall")).removeprefix("val/")
    return "mean recall" if name == "mean_recall" else METRICS.get(name, name)


def facts(study: Study) -> dict[str, str]:
    """Return what a reader has to know to judge and to repeat the numbers, by its title; empty ones are left out."""
    made_by = [one for row in study.rows for one in row.made_by if one.commit]
    versions = {name: version for one in made_by for name, version in one.versions.items()}
    weights = {name: digest for one in made_by for name, digest in one.weights.items()}
    counts = sorted({row.seeds for row in study.rows if not row.full}) or [study.get("protocol.seeds", "?")]
    full = sorted({row.seeds for row in study.rows if row.full})
    students = f"{' or '.join(map(str, counts))} students of each set"
    students += f", {' or '.join(map(str, full))} of all pairs" if full else ""
    found = {
        "State": state(study),
        "Note": str(study.get("note", "")),
        "Method": _options(study.get("method", {})),
        "Data": _options(study.get("data", {})),
        "Protocol": "; ".join(dict.fromkeys(row.protocol for row in study.rows if row.protocol)),
        "Seeds": f"seed {study.get('seed', 0)} of the study; {students}" if study.configuration else "",
        "Selection": selection(study),
        "Cost": cost(study),
        "Commit": ", ".join(dict.fromkeys(str(one.commit) for one in made_by)),
        "Device": ", ".join(dict.fromkeys(str(one.device) for one in made_by if one.device)),
        "Libraries": ", ".join(f"{name} {version}" for name, version in versions.items() if version != "none"),
        "Weights": ", ".join(f"{name} {digest}" for name, digest in weights.items()),
        "Folder": str(study.folder),
    }
    return {title: text for title, text in found.items() if text}


def _options(section: Mapping[str, Any]) -> str:
    """Return a section of the configuration as its name and what its other keys hold."""
    named = {key: value for key, value in section.items() if key != "name" and value is not None}
    said = [str(section.get("name", "")), *(f"{key} {plain(value)}" for key, value in named.items())]
    return ", ".join(said).strip(", ")


def plain(value: Any) -> str:
    """Return a value of a configuration on one line: short numbers, and nested keys without braces."""
    if isinstance(value, Mapping):
        inner = {key: plain(item) for key, item in value.items()}
        return next(iter(inner.values())) if len(set(inner.values())) == 1 else " ".join(
            f"{key}:{item}" for key, item in inner.items())  # fmt: skip
    if isinstance(value, list | tuple):
        return " ".join(map(plain, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)


def selection(study: Study) -> str:
    """Return what was chosen on which split; empty without a configuration."""
    given = study.get("protocol")
    if not isinstance(given, Mapping):
        return ""
    largest = f"the largest {metric(study)} on val"
    steps = {"val": f"{largest}, every {study.get('budget.evaluate_every')} steps", "last": "the last"}
    epochs = {"last": "the last", "best_on_val": "the best on val", "best_on_test": "the best on test"}
    rates = ", ".join(plain(rate) for rate in given.get("learning_rates", []))
    chosen_on_test = given.get("select_epoch") == "best_on_test"
    chosen = {
        "trial": f"{largest} of {len(study.trials)}" if len(study.trials) > 1 else "",
        "outer step": steps.get(str(given.get("select_step")), ""),
        "learning rate of students": f"{rates}, by val" if rates else "",
        "epoch of students": epochs.get(str(given.get("select_epoch")), ""),
        "test was used for": "a choice, so its recalls are optimistic" if chosen_on_test else "the table alone",
    }
    return "; ".join(f"{what}: {how}" for what, how in chosen.items() if how)


def cost(study: Study) -> str:
    """Return time and memory of the study's set and of its search."""
    parts = []
    if own := next((row for row in study.rows if row.seconds is not None and not row.full), None):
        memory = f", at most {size_text(own.memory)} of memory" if own.memory else ""
        stored = f", {size_text(own.size)} stored" if own.size else ""
        parts.append(f"{own.name}: {duration(own.seconds or 0)}{memory}{stored}")
    if study.trials and (seconds := sum(trial.seconds for trial in study.trials)):
        steps = sum(trial.outer_steps for trial in study.trials)
        parts.append(
            f"search: {len(study.trials)} trials, {steps} outer steps, {duration(seconds)} in them "
            f"({seconds / max(steps, 1):.3g} s a step)"
        )
    if full := next((row for row in study.rows if row.full and row.seconds is not None), None):
        parts.append(f"a student of all pairs: {duration(full.seconds or 0)}")
    return "; ".join(parts)


def commands(study: Study) -> list[tuple[str, str]]:
    """Return for each row its label and the command that makes it again; none without a configuration."""
    if not study.configuration:
        return []
    return [(f"{row.name}, {row.pairs} pairs", command(study, row)) for row in study.rows]


def command(study: Study, row: Row) -> str:
    """Return the command that makes a row again, to be typed in the folder where the study ran."""
    if not study.configuration:
        return ""
    file = str(study.folder / CONFIGURATION) if isinstance(study.folder, Path) else CONFIGURATION
    name, task = row.name.partition(" (")[0], "coreset"
    if row.full:
        words = ["baselines.coresets=[]"]
    elif name in (study.get("baselines.coresets") or []) and row != study.rows[0]:  # the first is the study's own set
        others = [] if study.get(f"baselines.options.{name}") else ["baselines.options={}"]
        words = [f"baselines.coresets=[{name}]", *others, f"baselines.pairs=[{row.pairs}]"]
    else:
        searched = len(study.trials) if study.get("search") and not study.get("budget.samples") else 0
        task, words = "distill", [*(["--samples", str(searched)] if searched > 1 else []), "--fresh"]
    return shlex.join(["vldistill", task, "--config", file, f"storage={study.folder.parent.parent}", *words])
