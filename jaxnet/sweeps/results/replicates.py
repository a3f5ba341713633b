"""Seeds are replicates: rows that differ in nothing but the seed, and what they say together."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from jaxnet.errors import ConfigurationError, unknown
from jaxnet.host.files import write_whole
from jaxnet.intervals import Interval, mean_interval, proportion_interval, welch_interval
from jaxnet.sweeps.results.rows import Row, csv_text

STATISTICS = ("mean", "median")
COLUMNS = ("seeds", "diverged", "mean", "std", "ci_low", "ci_high", "median", "best", "ids")


@dataclass(frozen=True)
class Replicates:
    """One setting (seed left out) and its rows, one a seed, by id.

    All statistics are of the validation accuracy of the rows that did not diverge; NaN where
    there are too few.
    """

    settings: dict[str, Any]
    rows: tuple[Row, ...]

    @cached_property
    def accuracies(self) -> dict[int, float]:
        """Validation accuracy by seed, of the rows that did not diverge."""
        found = {row.settings["seed"]: row.outcome.val_accuracy for row in self.rows if row.ok}
        return {seed: accuracy for seed, accuracy in found.items() if not math.isnan(accuracy)}

    @cached_property
    def count(self) -> int:
        """How many rows did not diverge: the n of the statistics."""
        return len(self.accuracies)

    @cached_property
    def diverged(self) -> int:
        """How many rows diverged."""
        return sum(not row.ok for row in self.rows)

    @cached_property
    def mean(self) -> float:
        """`Σx/n`; NaN for none."""
        if self.count == 1:
            return self._values[0]
        return float(np.mean(self._values)) if self.count else math.nan

    @property
    def std(self) -> float:
        """`√(Σ(x - x̄)²/(n - 1))`, of the sample; NaN for fewer than two."""
        return float(np.std(self._values, ddof=1)) if self.count > 1 else math.nan

    @property
    def median(self) -> float:
        """The middle one, or halfway between the middle two; NaN for none."""
        return float(np.median(self._values)) if self.count else math.nan

    @property
    def interval(self) -> Interval:
        """The 95 % confidence interval of the mean over seeds, by Student's t; NaN for one."""
        return mean_interval(self._values)

    def score(self, by: str) -> float:
        """Return the mean or median over all rows where a diverged one has accuracy 0.

        The mean of these is the accuracy to expect of one more run with this setting.
        """
        values = [*self._values, *[0.0] * self.diverged]
        if len(values) == 1:  # most sweeps have one seed, and NumPy takes a while over one number
            return values[0]
        return float({"mean": np.mean, "median": np.median}[by](values)) if values else 0.0

    @cached_property
    def _values(self) -> list[float]:
        return list(self.accuracies.values())


def replicates(rows: Sequence[Row]) -> list[Replicates]:
    """Group the rows that differ only in the seed; groups and their rows in the order of ids.

    Of rows equal in all settings and the seed the first is kept: a run repeated is no replicate,
    and counting it again would narrow the interval without new evidence.
    """
    groups: dict[Any, dict[int, Row]] = {}
    for row in sorted(rows, key=lambda row: row.id):
        groups.setdefault(_key(_settings(row)), {}).setdefault(row.settings["seed"], row)
    grouped = [tuple(by_seed.values()) for by_seed in groups.values()]
    return [Replicates(_settings(kept[0]), kept) for kept in grouped]


def rank_replicates(groups: Sequence[Replicates], by: str = "mean") -> list[Replicates]:
    """Return the groups from best to worst by the mean or the median; a diverged seed counts 0.

    A run that diverged leaves no network to use, so its accuracy is 0, not the survivors' mean.
    This weighs reliability against accuracy without a threshold: one seed in five diverged costs a
    fifth of the mean, so such a setting ranks below any stable one of similar accuracy, yet above
    one that is stable because it learns nothing. The median asks what the typical seed gives, and
    forgives a minority. Settings of which every seed diverged come last, above them what was cut
    before its end. Ties go to the lower mean loss, then to the lower id: with one seed each the
    order is as in `rows.rank`. Raises ConfigurationError for an unknown `by`.
    """
    if by not in STATISTICS:
        raise ConfigurationError(unknown("statistic", by, STATISTICS))

    def worth(group: Replicates) -> tuple[bool, float, float, float, int]:
        last = group.diverged == len(group.rows)
        cut = max(0.0 if row.whole else 1 / (1 + row.outcome.steps) for row in group.rows)
        losses = [row.outcome.final_loss for row in group.rows if row.ok or last]
        loss = losses[0] if len(losses) == 1 else float(np.mean(losses))
        return last, cut, -group.score(by), math.inf if math.isnan(loss) else loss, group.rows[0].id

    return sorted(groups, key=worth)


def difference_interval(
    a: Replicates, b: Replicates, *, validation: int | None = None
) -> Interval | None:
    """Return a 95 % interval of the mean accuracy of `a` minus `b`'s; None: not known.

    With at least two seeds in common with which neither diverged: of the mean of the differences by
    seed. Runs of one seed share their initial weights and minibatches (common random numbers), so
    what they have in common cancels. Else, with at least two accuracies each: Welch's. Else, with
    the number of `validation` images: from the binomial error of each accuracy, which knows of the
    choice of images but nothing of the seeds. None if either has no accuracy, or nothing else is
    known. All but the last speak of these validation images only.
    """
    x, y = a.accuracies, b.accuracies
    shared = [seed for seed in x if seed in y]
    if len(shared) > 1:
        return mean_interval([x[seed] - y[seed] for seed in shared])
    if min(a.count, b.count) > 1:
        return welch_interval([*x.values()], [*y.values()])
    if validation is None or min(a.count, b.count) == 0:
        return None
    return proportion_interval(a.mean, b.mean, validation)


def within_noise(
    best: Replicates, others: Sequence[Replicates], *, validation: int | None = None
) -> list[Replicates]:
    """Return the `others` over which the lead of `best` may be chance, in their order.

    Those whose `difference_interval` from `best` reaches down to 0, or is not known. A setting
    that diverged for a larger share of its seeds than `best` is set apart by that, whatever the
    accuracy of the rest.

    On many comparisons: each interval is taken at 95 %, without correction. That is enough to call
    a winner clear (nothing returned), because it must lead every other: with `best` picked as the
    highest, two equal settings are so misjudged in 5 % of cases, more of them less often. Two
    things stay optimistic. The mean of the best of many is too high, for its luck was picked with
    it: confirm it with new seeds, or on the test images. And the list is no confidence set: of many
    settings equal to the best, those with bad luck are missing from it.
    """
    found = []
    for other in others:
        if other.count == 0 or _share(other) > _share(best):
            continue
        interval = difference_interval(best, other, validation=validation)
        if interval is None or interval[0] <= 0:
            found.append(other)
    return found


def noise_note(groups: Sequence[Replicates], *, validation: int | None = None) -> str | None:
    """Return a sentence if the lead of the best by mean may be noise; None if it is clear.

    None also for a single setting, or if all seeds of all diverged. `validation` is the number of
    validation images, which matters with one seed; see `within_noise`.
    """
    ranked = rank_replicates(groups)
    if len(ranked) < 2 or ranked[0].count == 0:
        return None
    best, *others = ranked
    close = within_noise(best, others, validation=validation)
    if not close:
        return None
    margin = f"the winner's margin ({best.mean - close[0].mean:.2g})"
    if best.count == 1 and validation is None:
        return f"{margin} cannot be judged from one seed: more seeds would show its noise"
    return (
        f"{margin} is within noise: {len(close)} of {len(others)} others cannot be told from it; "
        "more seeds or validation images would tell"
    )


def write_replicates_csv(groups: Sequence[Replicates], path: Path) -> None:
    """Write one line a setting in the order given; empty where a number is missing.

    `seeds` counts all its rows, `best` is the highest accuracy; `ids` are as in `results.csv`,
    with spaces between.
    """
    settings = list(dict.fromkeys(name for group in groups for name in group.settings))
    lines = [_line(group) for group in groups]
    write_whole(path, csv_text([*settings, *COLUMNS], lines).encode("utf-8"))


def _line(group: Replicates) -> dict[str, Any]:
    first = group.rows[0].to_dict()  # writes the settings as results.csv does
    low, high = group.interval
    statistics = {
        "seeds": len(group.rows),
        "diverged": group.diverged,
        "mean": group.mean,
        "std": group.std,
        "ci_low": low,
        "ci_high": high,
        "median": group.median,
        "best": max(group.accuracies.values(), default=math.nan),
    }
    line = {name: first[name] for name in group.settings} | statistics
    line = {name: None if value != value else value for name, value in line.items()}
    return line | {"ids": " ".join(str(row.id) for row in group.rows)}


def _share(group: Replicates) -> float:
    return group.diverged / len(group.rows)


def _settings(row: Row) -> dict[str, Any]:
    return {name: value for name, value in row.settings.items() if name != "seed"}


def _key(value: Any) -> Any:
    """Return a hashable value: the widths of a row read from a store are a list, else a tuple."""
    if isinstance(value, dict):
        return frozenset((name, _key(v)) for name, v in value.items())
    if isinstance(value, bool):  # True equals 1 to Python
        return bool, value
    return tuple(map(_key, value)) if isinstance(value, list | tuple) else value
