"""The figures of one study or of many, each where the data for it are there."""

from collections.abc import Sequence

from engine.report import curves, knobs, pair_map, recall
from engine.report.facts import metric
from engine.report.figures import Drawing, counted, drawing, styled
from engine.report.pairs import audit_figures, draw_similarity, pairs_figure, time_lapse_figure
from engine.report.study import Study
from engine.results.pair_map import read_map
from engine.results.row import OWN, Row
from engine.synthetic.set import load_set


def of_study(study: Study) -> list[Drawing]:
    """Return the figures of a study, those about its set first."""
    with styled():
        own = [row for row in study.rows if recall.set_and_student(row, study.rows)[1] == OWN]
        found = [pairs_figure(study), time_lapse_figure(study), *audit_figures(study.audit), *_recalls(own)]
        found += [*_experts(study), *_curves(study), *_knobs(study)]
        matrix = load_set(study.set_file).similarity() if study.set_file else None
        if matrix is not None:
            found.append(drawing("similarity", *draw_similarity(matrix.detach())))
        if there := read_map(study.folder):
            found.append(drawing("pair-map", pair_map.caption(there), pair_map.draw_map(there)))
        if cells := recall.transfers([*study.rows, *study.students]):
            found.append(drawing("transfer", *recall.draw_transfer(cells)))
    return [one for one in found if one is not None]


def of_studies(studies: Sequence[Study]) -> list[Drawing]:
    """Return for each protocol and data the figures of recall over all studies that share them and have two sets."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in (row for study in studies for row in study.rows):
        group = groups.setdefault((row.protocol, row.data), [])
        if not any((one.name, one.pairs, one.mean) == (row.name, row.pairs, row.mean) for one in group):
            group.append(row)
    found = []
    groups = {key: rows for key, rows in groups.items() if len(recall.scored(rows)) > 1}
    with styled():
        for number, ((protocol, _), rows) in enumerate(groups.items()):
            where = f" Protocol: {protocol}." if len(groups) > 1 and protocol else ""
            found += _recalls(rows, suffix=f"-{number + 1}" if len(groups) > 1 else "", more=where)
    return found


def _recalls(rows: Sequence[Row], *, suffix: str = "", more: str = "") -> list[Drawing]:
    """Return recall against pairs, bytes and seconds, each where two sets differ in it."""
    sets = recall.scored(rows)
    if not sets:
        return []
    said = f"{recall.students_of(rows)}.{more}"
    line = " Dashed: students of all pairs." if any(row.full for row in rows) else ""
    found = []
    for measure in (recall.PAIRS, recall.BYTES, recall.SECONDS):
        caption, places = f"Recall against {measure.caption}", {measure.value(row) for row in sets} - {None}
        if len(places) > 1:
            if measure is recall.PAIRS:
                caption += f" ({counted(len(sets), 'set')} at {counted(len(places), 'budget')})"
            figure = recall.draw_against(rows, measure)
            found.append(drawing(f"recall-{measure.name}{suffix}", f"{caption}: {said}{line}", figure))
        elif measure is recall.PAIRS:
            caption = f"Recall of sets of {counted(sets[0].pairs, 'pair')}: {said} Crosses: single students.{line}"
            found.append(drawing(f"recall-sets{suffix}", caption, recall.draw_sets(rows)))
    return found


def _experts(study: Study) -> list[Drawing]:
    """Return the learning curves of a study's experts, with the segments that its method draws from them."""
    if not any(study.experts):
        return []
    span, starts = study.get("method.span"), {"image": study.get("method.max_start")}
    starts["text"] = study.get("method.text_max_start") or starts["image"]
    known = {side: range(count) for side, count in starts.items() if isinstance(count, int) and isinstance(span, int)}
    segments = {side: [(start, start + span) for start in firsts] for side, firsts in known.items()}
    listed = {side: ", ".join(f"{start} to {end}" for start, end in found) for side, found in segments.items()}
    if len(set(listed.values())) == 1:
        segments, listed = {"both": segments["image"]}, {"both": listed["image"]}
    said = "; ".join(f"{side} {found}" for side, found in listed.items())
    caption = (
        f"Learning curves of {counted(len(study.experts), 'expert')}: mean loss over the batches of each epoch, and "
        "mean recall on val at its end."
    )
    if said:
        caption += f" Below, the segments that students are given, from epoch to epoch ({said.removeprefix('both ')})."
    return [drawing("experts", caption, curves.draw_experts(study.experts, segments))]


def _curves(study: Study) -> list[Drawing]:
    """Return the validations of all trials, and the losses and learned rates of the best one."""
    best, trials = study.best, [trial for trial in study.trials if trial.best is not None]
    if best is None:
        return []
    key, label = str(study.get("budget.metric", "val/mean_recall")), metric(study)
    found, first = [], {name: value for one in best.history.validations for name, value in one.items()}
    if key in first:
        caption = (
            f"{label.capitalize()} on val of one student (seed {study.get('seed', 0)}) trained on the set at each "
            f"validation, for {counted(len(trials), 'trial')}. The ring is the set that was kept."
        )
        found.append(drawing("validations", caption, curves.draw_validations(trials, best, key=key, label=label)))
    every = study.get("budget.evaluate_every", "?")
    if any(name.startswith(curves.LOSS) for name in first):
        caption = f"Losses of {best.name}, the mean over the {every} outer steps before each validation."
        found.append(drawing("losses", caption, curves.draw_numbers(best, curves.LOSS, label="loss")))
    if any(name.startswith(curves.RATE) for name in first):
        caption = f"Learned learning rates of the student in {best.name}, by tower (mean over {every} outer steps)."
        figure = curves.draw_numbers(best, curves.RATE, label="learned learning rate")
        found.append(drawing("rates", caption, figure))
    return found


def _knobs(study: Study) -> list[Drawing]:
    """Return what the searched knobs were worth, with importances where there are enough trials."""
    domains, label = study.domains, metric(study)
    trials = [one for one in study.trials if one.best is not None and set(domains) <= set(one.history.searched)]
    if not domains or len(trials) < 2:
        return []
    caption = (
        f"Best {label} on val of {len(trials)} trials against each searched knob; squares are its default. Trials that "
        "were stopped early are among them."
    )
    found = [drawing("slices", caption, knobs.draw_slices(trials, domains, label=label))]
    if len(trials) >= knobs.ENOUGH and len(domains) > 1 and len({trial.best for trial in trials}) > 1:
        caption = (
            f"Importance of each searched knob: its share of the variance of the best {label} on val over n = "
            f"{len(trials)} trials (Optuna, fANOVA); with few trials it is a rough guide."
        )
        shares = knobs.importances(trials, domains)
        found.append(drawing("importances", caption, knobs.draw_importances(shares)))
    return found
