"""Figures of what each searched knob was worth: the best metric against each value, and Optuna's importances."""

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from engine.config.search import Choice, Domain
from engine.report.facts import plain
from engine.report.figures import COLOURS, WIDTH, log_ticks, new_axes, set_log_axis
from engine.report.study import Trial

ENOUGH = 4
"""Trials below which importances say nothing."""
COLUMNS = 2


def draw_slices(trials: Sequence[Trial], domains: Mapping[str, Domain], *, label: str) -> Figure:
    """Return the best metric on val of every trial against the value of each knob; a square is the default."""
    rows = math.ceil(len(domains) / COLUMNS)
    figure = Figure(figsize=(WIDTH, 0.3 + 1.9 * rows))
    bests = [trial.best or 0.0 for trial in trials]
    for number, (key, domain) in enumerate(domains.items()):
        axes = figure.add_subplot(rows, COLUMNS, number + 1)
        values = [trial.history.searched[key] for trial in trials]
        places = _places(axes, domain, values)
        axes.plot(places, bests, "o", color=COLOURS[0], alpha=0.8)
        for place, value, best in zip(places, values, bests, strict=True):
            if value == domain.default:
                axes.plot(place, best, "s", markersize=9, fillstyle="none", color=COLOURS[1])
        axes.set_xlabel(key.removeprefix("method."), size=9)
        axes.margins(x=0.12, y=0.15)
        if number % COLUMNS == 0:
            axes.set_ylabel(f"{label} (%)", size=9)
    return figure


def _places(axes: Axes, domain: Domain, values: Sequence[object]) -> list[float]:
    """Return where the values of a knob stand, and give the axis the scale and the ticks of its domain."""
    if isinstance(domain, Choice):
        words = [plain(value) for value in domain.values]
        axes.set_xticks(range(len(words)), [word.replace(" ", "\n") for word in words])
        axes.set_xlim(-0.5, len(words) - 0.5)
        return [float(domain.values.index(value)) if value in domain.values else math.nan for value in values]
    if domain.log:
        set_log_axis(axes.xaxis, log_ticks(domain.low, domain.high), lambda value: f"{value:g}")
    axes.set_xlim(domain.low, domain.high)
    return [float(value) for value in values]  # type: ignore[arg-type]


def importances(trials: Sequence[Trial], domains: Mapping[str, Domain]) -> dict[str, float]:
    """Return the share of each knob in the variance of the best metric, largest first (fANOVA).

    References:
        Hutter, Hoos, Leyton-Brown, An Efficient Approach for Assessing Hyperparameter Importance, ICML 2014.
    """
    import optuna
    from optuna import distributions

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize")
    kinds: dict[str, Any] = {}
    for key, domain in domains.items():
        if isinstance(domain, Choice):  # as texts, since a mapping cannot be a choice
            kinds[key] = distributions.CategoricalDistribution([plain(value) for value in domain.values])
        elif domain.integer:
            kinds[key] = distributions.IntDistribution(int(domain.low), int(domain.high), log=domain.log)
        else:
            kinds[key] = distributions.FloatDistribution(domain.low, domain.high, log=domain.log)
    for trial in trials:
        given = {key: trial.history.searched[key] for key in domains}
        params = {key: plain(one) if isinstance(domains[key], Choice) else one for key, one in given.items()}
        study.add_trial(optuna.create_trial(params=params, distributions=kinds, value=trial.best))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        evaluator = optuna.importance.FanovaImportanceEvaluator(n_trees=32, seed=0)
        return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))


def draw_importances(shares: Mapping[str, float]) -> Figure:
    """Return a bar for the share of each knob, with its number."""
    figure, axes = new_axes(height=0.9 + 0.34 * len(shares))
    bars = axes.barh(range(len(shares)), list(shares.values()), color=COLOURS[0], height=0.6)
    axes.bar_label(bars, [f"{share:.2f}" for share in shares.values()], padding=3, size=9)
    axes.set_yticks(range(len(shares)), [key.removeprefix("method.") for key in shares])
    axes.set_ylim(len(shares) - 0.4, -0.6)
    axes.set_xlim(0, 1.1)
    axes.set_xlabel("share of the variance of the best metric")
    return figure
