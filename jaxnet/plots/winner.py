"""The best settings of a sweep with their seeds, which show how certain the winner is."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from jaxnet.arguments.signatures import checked
from jaxnet.errors import ConfigurationError
from jaxnet.plots.style import BLUE, GREY, ORANGE, finish, set_title
from jaxnet.sweeps.results.replicates import Replicates, within_noise

MAX_SETTINGS = 12


@checked
def winner_reliability(
    settings: Sequence[Replicates],
    names: Sequence[str],
    *,
    validation: int | None = None,
    title: str = "",
) -> Figure:
    """Draw the best settings: mean accuracy over seeds, 95 % interval, each seed.
    `settings` come from best to worst, as in `SweepResult.replicates`; `names` are the
    hyperparameters that label them, as in `SweepResult.swept`. A filled marker says that these
    seeds cannot distinguish a setting from the first (see `within_noise`), a hollow one that they
    can. At most 12 are drawn. Raises ConfigurationError if all diverged.
    """
    shown = [setting for setting in settings if setting.count][:MAX_SETTINGS]
    if not shown:
        raise ConfigurationError("expected a setting that did not diverge, got none")
    close = within_noise(shown[0], shown[1:], validation=validation)
    figure = Figure(figsize=(8, 1.4 + 0.36 * len(shown)), layout="constrained")
    axes = figure.subplots()
    for i, setting in enumerate(shown):
        seeds = np.array([*setting.accuracies.values()])
        low, high = setting.interval
        tied = i == 0 or setting in close
        look: dict[str, Any] = {"color": BLUE if tied else GREY, "mfc": BLUE if tied else "white"}
        reach = None if np.isnan(low) else [[setting.mean - low], [high - setting.mean]]
        axes.plot(seeds, np.full(len(seeds), i - 0.22), "|", color=GREY, ms=7)
        axes.errorbar([setting.mean], [i], xerr=reach, fmt="o", ms=7, capsize=3, **look)
        if setting.diverged:
            note = f" ✕ {setting.diverged} diverged"
            axes.annotate(note, (setting.mean, i + 0.35), color=ORANGE, fontsize=8, va="center")
    axes.plot([], [], "o", color=BLUE, label=f"the first, and {len(close)} like it")
    if len(close) + 1 < len(shown):
        axes.plot([], [], "o", color=GREY, mfc="white", label="worse than the first")
    axes.plot([], [], "|", color=GREY, label="a seed")
    labels = [_label(setting, names) for setting in shown]
    axes.set_yticks(range(len(shown)), labels=labels, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("validation accuracy: mean over seeds, 95 % interval")
    finish(axes)
    set_title(figure, title)
    return figure


def _label(setting: Replicates, names: Sequence[str]) -> str:
    def text(value: object) -> str:
        if isinstance(value, list | tuple):
            return "-".join(map(str, value)) or "none"
        return f"{value:.3g}" if isinstance(value, float) else str(value)

    chosen = [name for name in names if name != "seed"]
    return ", ".join(f"{name} {text(setting.settings.get(name))}" for name in chosen)
