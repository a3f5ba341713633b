"""The content of the report of one run, as plain lists, numbers and texts for the page."""

import math
import shlex
from typing import Any

import numpy as np

from jaxnet.diagnosis import diagnose_row, diagnose_rows
from jaxnet.host.texts import to_json
from jaxnet.intervals import mean_interval
from jaxnet.plots.axis import make_axis
from jaxnet.report.importance import METHOD, importance
from jaxnet.report.pictures import first_layer, tiles
from jaxnet.sweeps.folder.recorded import Recorded
from jaxnet.sweeps.results.replicates import Replicates, within_noise
from jaxnet.sweeps.results.rows import OUTCOME_COLUMNS, Row, rank

MAX_CURVES = 300  # more would only show as one area
MAX_POINTS = 1500  # in a scatter; the table and the parallel coordinates have all
MAX_LEVELS = 20  # of an axis; beyond it neighbouring values share a level
MAX_LOSSES = 500  # points of a loss curve
MAX_CLASSES = 500  # of a confusion matrix
MAX_NETWORKS = 3  # whose weights are shown


def content(run: Recorded) -> dict[str, Any]:
    """Return everything that the page shows of a run; NaN and infinities become None."""
    best = run.best
    found = {
        "name": run.name,
        "kind": "sweep" if len(run.rows) > 1 else "run",
        "facts": _facts(run),
        "diagnosis": _findings(run),
        "settings": _constants(run),
        "table": _table(run),
        "axes": [_axis(run, name) for name in run.axes],
        "importance": _importance(run),
        "fan": _fan(run) if len(run.rows) > 1 else None,
        "rungs": _rungs(run),
        "top": _top(run) if any(len(s.rows) > 1 for s in run.settings) else None,
        "best": None if best is None else {"id": best.id, **_curves(best)},
        "only": _curves(run.rows[0]) if len(run.rows) == 1 else None,
        "weights": _weights(run),
        "judged": _judged(run),
        "layers": None if run.layers is None else run.layers.content(),
        "chance": None if run.classes is None else 1 / run.classes,
        "plan": run.summary.get("plan"),
        "work": run.summary.get("work"),
        "again": _again(run),
    }
    return finite(found)


def finite(value: Any) -> Any:
    """Return a value for JSON: numbers have 6 digits, NaN and infinities become None."""
    if isinstance(value, dict):
        return {name: finite(inner) for name, inner in value.items()}
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value


def _facts(run: Recorded) -> list[list[str]]:
    """Return label and text of each number at the top of the page."""
    diverged = sum(not row.ok for row in run.rows)
    facts = []
    if len(run.rows) > 1:
        facts += [["configurations", f"{len(run.rows):,}"], ["diverged", f"{diverged:,}"]]
    winner = run.settings[0] if run.settings and run.settings[0].count else None
    if winner is not None:
        spread = "" if winner.count < 2 else f" ± {winner.mean - winner.interval[0]:.3f}"
        facts.append(["validation accuracy", f"{winner.mean:.3f}{spread}"])
    if run.best is not None and len(run.rows) == 1:
        facts.append(["training accuracy", f"{run.best.outcome.train_accuracy:.3f}"])
    if len(run.rows) == 1:
        facts.append(["status", run.rows[0].outcome.status])
    if (test := run.summary.get("test_accuracy")) is not None:
        facts.append(["test accuracy", f"{test:.3f}"])
    if (seconds := run.summary.get("seconds")) is not None:
        facts.append(["time", f"{seconds:,.1f} s" if seconds < 120 else f"{seconds / 60:,.1f} min"])
    if not run.summary.get("complete", False):
        facts.append(["state", "not complete"])
    return facts


def _findings(run: Recorded) -> list[dict[str, str]]:
    found = []
    if len(run.rows) > 1:
        found += diagnose_rows(run.settings, run.axes, validation=run.validation, noise=run.noise)
    row = run.best or run.rows[0]
    found += diagnose_row(
        row,
        classes=run.classes,
        layers=run.layers,
        validation=run.validation,
        label_shifts=run.label_shifts,
    )
    return [finding.to_dict() for finding in found]


def _constants(run: Recorded) -> list[list[str]]:
    """Return name and text of each setting that all rows share."""
    first = run.rows[0].to_dict()
    names = [n for n in first if n not in ("id", *OUTCOME_COLUMNS) and n not in run.axes]
    shared = [n for n in names if n != "seed" or len({r.settings["seed"] for r in run.rows}) == 1]
    return [[name, _text(first[name])] for name in shared if first[name] is not None]


def _table(run: Recorded) -> dict[str, Any]:
    """Return the columns of the table: the settings that vary, and the outcomes."""
    seeds = len({row.settings["seed"] for row in run.rows}) > 1
    names = ["id", *run.axes, *(["seed"] if seeds else []), *OUTCOME_COLUMNS]
    lines = [row.to_dict() for row in sorted(run.rows, key=lambda row: row.id)]
    return {"names": names, "columns": [[line.get(name) for line in lines] for name in names]}


def _axis(run: Recorded, name: str) -> dict[str, Any]:
    """Return accuracy over one hyperparameter: the best setting at each value, and all runs.

    More than MAX_LEVELS different values are divided into that many levels of equal counts.
    """
    settings, means = run.settings, run.means
    axis = make_axis(name, [_value(s.settings.get(name)) for s in settings], even=0)
    which, count = axis.which, len(axis.levels)
    numbers = axis.continuous
    if count > MAX_LEVELS:
        which = which * MAX_LEVELS // count
    levels = []
    for group in range(min(count, MAX_LEVELS)):
        mine = [settings[i] for i in np.flatnonzero(which == group)]  # from best to worst
        values = [s.settings.get(name) for s in mine]
        best = next((s for s in mine if s.count), None)
        bad, runs = sum(s.diverged for s in mine), sum(len(s.rows) for s in mine)
        level: dict[str, Any] = {"diverged": bad, "runs": runs, "n": 0}
        level["x"] = float(np.median(np.asarray(values, float))) if numbers else group
        level["label"] = axis.labels[group] if count <= MAX_LEVELS else f"{level['x']:.3g}"
        if best is not None:
            low, high = best.interval
            level |= {"best": best.mean, "low": low, "high": high, "n": best.count}
        finite_means = [means[i] for i in np.flatnonzero(which == group) if math.isfinite(means[i])]
        level["mean"] = float(np.mean(finite_means)) if finite_means else None
        levels.append(level)
    step = max(1, math.ceil(len(settings) / MAX_POINTS))
    points = [
        [float(s.settings[name]) if numbers else int(axis.which[i]), means[i]]
        for i, s in enumerate(settings)
        if i % step == 0 and math.isfinite(means[i])
    ]
    if not numbers and count > MAX_LEVELS:
        points = []  # more names than an axis can list
    positive = [v for v in axis.levels if numbers and v > 0]
    log = numbers and len(positive) == count and count > 1 and positive[-1] >= 10 * positive[0]
    return {"name": name, "numeric": numbers, "log": log, "levels": levels, "points": points}


def _importance(run: Recorded) -> dict[str, Any] | None:
    ranked = rank(run.rows)  # cut rows come after uncut ones, diverged rows last
    # Every k-th row: the best tenth of them is still from the best tenth of all.
    ranked = ranked[:: max(1, math.ceil(len(ranked) / MAX_POINTS))]
    columns = {name: [_value(row.settings.get(name)) for row in ranked] for name in run.axes}
    shares = importance(columns, [-float(i) for i in range(len(ranked))])
    if shares is None:
        return None
    ordered = sorted(shares.items(), key=lambda item: item[1], reverse=True)
    return {"method": METHOD, "shares": [[name, share] for name, share in ordered]}


def _fan(run: Recorded) -> dict[str, Any]:
    """Return validation accuracy over steps for at most MAX_CURVES rows, evenly over the ids."""
    rows = sorted(run.rows, key=lambda row: row.id)
    chosen = {int(i) for i in np.linspace(0, len(rows) - 1, min(MAX_CURVES, len(rows)))}
    best = None if run.best is None else run.best.id
    shown = [row for i, row in enumerate(rows) if i in chosen or row.id == best]
    curves = []
    for row in shown:
        history = row.outcome.history
        known = np.isfinite(history.val_accuracy)
        curves.append(
            {
                "id": row.id,
                "diverged": not row.ok,
                "at": row.outcome.steps,
                "x": history.evaluated[known],
                "y": history.val_accuracy[known],
            }
        )
    return {"curves": curves, "shown": len(shown), "all": len(rows), "best": best}


def _rungs(run: Recorded) -> list[dict[str, Any]] | None:
    """Return, for each cut, the accuracies of the runs that went on and of the others."""
    if not run.rungs:
        return None
    ends = {row.id: row.outcome for row in run.rows}
    steps = sorted({step for _, step in run.rungs})
    found = []
    for step in steps:
        at = {id: a for (id, s), a in run.rungs.items() if s == step and id in ends}
        on = {id for id in at if ends[id].steps > step}
        found.append(
            {
                "step": step,
                "on": [at[id] for id in sorted(on)],
                "cut": [at[id] for id in sorted(at.keys() - on)],
            }
        )
    last = max(o.steps for o in ends.values())
    final = [o.val_accuracy for o in ends.values() if o.kind in ("ok", "stopped")]
    return [*found, {"step": last, "on": final, "cut": []}]


def _top(run: Recorded) -> list[dict[str, Any]]:
    """Return the best settings with their seeds, and whether each may tie with the winner."""
    shown = [s for s in run.settings[:12] if s.count]
    if not shown:
        return []
    close = within_noise(shown[0], shown[1:], validation=run.validation)
    return [
        {
            "label": _label(run, s),
            "mean": s.mean,
            "low": mean_interval([*s.accuracies.values()])[0],
            "high": mean_interval([*s.accuracies.values()])[1],
            "seeds": [*s.accuracies.values()],
            "diverged": s.diverged,
            "close": s in close,
        }
        for s in shown
    ]


def _label(run: Recorded, setting: Replicates) -> str:
    return " ".join(f"{_text(_value(setting.settings.get(name)))}" for name in run.axes)


def _curves(row: Row) -> dict[str, Any]:
    history = row.outcome.history
    thinned = slice(None, None, max(1, math.ceil(len(history.steps) / MAX_LOSSES)))
    return {
        "settings": {n: _text(_value(v)) for n, v in row.settings.items() if v is not None},
        "status": row.outcome.status,
        "steps": history.steps[thinned],
        "loss": history.loss[thinned],
        "evaluated": history.evaluated,
        "train": history.train_accuracy,
        "val": history.val_accuracy,
    }


def _weights(run: Recorded) -> list[dict[str, Any]]:
    """Return the first-layer weights of the best saved networks whose inputs are pixels."""
    pictures = []
    for row, network in run.best_networks(MAX_NETWORKS):
        if (picture := first_layer(network)) is not None:
            values = [f"{n} {_text(_value(row.settings.get(n)))}" for n in run.axes]
            accuracy = row.outcome.val_accuracy
            pictures.append(
                {"id": row.id, "label": ", ".join(values), "accuracy": accuracy, **picture}
            )
    return pictures


def _judged(run: Recorded) -> dict[str, Any] | None:
    judged, names = run.judged, run.class_names
    if judged is None or names is None or len(names) > MAX_CLASSES:
        return None
    if max(judged.labels.max(initial=0), judged.predicted.max(initial=0)) >= len(names):
        return None  # the names belong to other data
    mistakes = [
        {
            "row": int(i),
            "is": names[judged.labels[i]],
            "said": names[judged.predicted[i]],
            "share": judged.confidence[i],
            "image": picture,
        }
        for i, picture in zip(judged.mistakes, tiles(judged.images), strict=True)
    ]
    counts = judged.confusion(len(names))
    return {"names": names, "confusion": counts, "mistakes": mistakes, "n": len(judged.labels)}


def _again(run: Recorded) -> dict[str, Any]:
    """Return everything that someone needs to repeat this run."""
    words = [str(word) for word in run.config.get("command", [])]
    # Only the name of the program: its path belongs to that machine.
    if words and words[0].endswith(("/jaxnet", "__main__.py")):
        words[0] = "jaxnet"
    return {
        "command": shlex.join(words),
        "config": f"jaxnet sweep {run.folder.name}/config.json --out AGAIN",
        "job": to_json(run.config.get("job"), indent=1),
        "versions": run.config.get("versions", {}),
        "machine": run.config.get("machine", {}),
        "data": run.config.get("data", {}),
        "started": run.config.get("started"),
    }


def _value(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _text(value: Any) -> str:
    if isinstance(value, tuple | list):
        return "-".join(map(str, value)) or "none"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
