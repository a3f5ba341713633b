"""How much each hyperparameter decides whether a configuration is among the best."""

import warnings
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

METHOD = "PED-ANOVA (Watanabe, Bansal, Hutter 2023; by Optuna): what sets the best tenth apart"
FEWEST = 8  # configurations below which a tenth says nothing


def importance(
    columns: Mapping[str, Sequence[Any]], worth: Sequence[float]
) -> dict[str, float] | None:
    """Return each hyperparameter's share of what sets the best tenth apart; they add up to 1.

    `columns` maps a name to its value in each configuration (None: not used by it), `worth` ranks
    them: higher is better. None if there are too few configurations, or no Optuna. Of each
    hyperparameter the distribution over the best tenth is compared with that over all (a Pearson
    divergence of kernel densities).

    Source: Watanabe, Bansal and Hutter, "PED-ANOVA: Efficiently quantifying hyperparameter
    importance in arbitrary subspaces", IJCAI 2023.
    """
    names = [name for name, values in columns.items() if len({repr(v) for v in values}) > 1]
    if len(worth) < FEWEST or not names or find_spec("optuna") is None:
        return None
    if len(names) == 1:
        return {names[0]: 1.0}
    import optuna
    from optuna.distributions import BaseDistribution, CategoricalDistribution
    from optuna.trial import create_trial

    # Levels, not sizes: on a grid the spacing is the user's, and names have none. Many different
    # numbers are ranked into twelve bins first.
    levels = {name: _levels(columns[name]) for name in names}
    choices: dict[str, BaseDistribution] = {
        name: CategoricalDistribution(sorted(set(levels[name]))) for name in names
    }
    trials, talk = [], optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # experimental, it says
        study = optuna.create_study(direction="maximize")
        for i, value in enumerate(worth):
            params = {name: levels[name][i] for name in names}
            trials.append(create_trial(params=params, distributions=choices, value=value))
        study.add_trials(trials)
        evaluator = optuna.importance.PedAnovaImportanceEvaluator(evaluate_on_local=False)
        found = evaluator.evaluate(study)
    optuna.logging.set_verbosity(talk)
    total = sum(found.values())
    return {name: share / total for name, share in found.items()} if total > 0 else None


def _levels(values: Sequence[Any]) -> list[int]:
    """Return the place of each value among the distinct ones; of many numbers one of 12 bins."""
    distinct = sorted({_order(value) for value in values})
    place = {value: i for i, value in enumerate(distinct)}
    bins = min(len(distinct), 12)
    return [place[_order(value)] * bins // len(distinct) for value in values]


def _order(value: Any) -> tuple[int, Any]:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return (0, value) if number else (1, repr(value))
