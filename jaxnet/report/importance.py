"""The importance of each hyperparameter for being among the best configurations."""

import warnings
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

METHOD = "PED-ANOVA (Watanabe, Bansal, Hutter 2023; by Optuna): what sets the best tenth apart"
MIN_CONFIGURATIONS = 8  # the best tenth of fewer means nothing
_MAX_LEVELS = 12


def importance(
    columns: Mapping[str, Sequence[Any]], worth: Sequence[float]
) -> dict[str, float] | None:
    """Return each hyperparameter's share in what sets the best tenth apart; shares add up to 1.

    `columns` maps a name to its value in each configuration (None: not used by it), `worth` ranks
    them: higher is better. Returns None for too few configurations, or without Optuna. The share
    is a Pearson divergence of two kernel densities of the hyperparameter: over the best tenth, and
    over all configurations.

    Source: Watanabe, Bansal and Hutter, "PED-ANOVA: Efficiently quantifying hyperparameter
    importance in arbitrary subspaces", IJCAI 2023.
    """
    names = [name for name, values in columns.items() if len({repr(v) for v in values}) > 1]
    if len(worth) < MIN_CONFIGURATIONS or not names or find_spec("optuna") is None:
        return None
    if len(names) == 1:
        return {names[0]: 1.0}
    import optuna
    from optuna.distributions import BaseDistribution, CategoricalDistribution
    from optuna.trial import create_trial

    # Optuna gets the ranks of values, as the spacing of a grid is the user's choice and names have
    # none. Many different numbers are ranked into _MAX_LEVELS bins.
    levels = {name: _levels(columns[name]) for name in names}
    choices: dict[str, BaseDistribution] = {
        name: CategoricalDistribution(sorted(set(levels[name]))) for name in names
    }
    trials, verbosity = [], optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the evaluator is experimental
        study = optuna.create_study(direction="maximize")
        for i, value in enumerate(worth):
            params = {name: levels[name][i] for name in names}
            trials.append(create_trial(params=params, distributions=choices, value=value))
        study.add_trials(trials)
        evaluator = optuna.importance.PedAnovaImportanceEvaluator(evaluate_on_local=False)
        shares = evaluator.evaluate(study)
    optuna.logging.set_verbosity(verbosity)
    total = sum(shares.values())
    return {name: share / total for name, share in shares.items()} if total > 0 else None


def _levels(values: Sequence[Any]) -> list[int]:
    """Return the rank of each value among the distinct ones, in at most _MAX_LEVELS bins."""
    distinct = sorted({_order(value) for value in values})
    rank = {value: i for i, value in enumerate(distinct)}
    bins = min(len(distinct), _MAX_LEVELS)
    return [rank[_order(value)] * bins // len(distinct) for value in values]


def _order(value: Any) -> tuple[int, Any]:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return (0, value) if number else (1, repr(value))
