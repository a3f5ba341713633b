"""The conventions that the course changed between its years, as one setting.

| | up to 2016 | 2017 | from 2018 |
|---|---|---|---|
| p of dropout, and `dropout=` of `FullyConnectedNet`: the probability to | drop | drop | keep |
| penalty of the first assignment's classifiers | ½·reg·Σ‖W‖² | reg·Σ‖W‖² | reg·Σ‖W‖² |

The first assignment's classifiers are `neural_net.TwoLayerNet`, `linear_svm` and `softmax`; the
networks of `fc_net` have ½·reg·Σ‖W‖² in every year. The newest year is the default. Renamed copies
follow the year they were copied in: 2018 for cs682 and daseCV, 2016 for asgn2 and CS182.
"""

from typing import Any

from jaxnet.errors import ConfigurationError

LATEST = 2018
_year = LATEST


def course_year(year: int) -> None:
    """Follow the conventions of the course in this year from now on.

    Existing networks keep their conventions.

    >>> course_year(2017)
    >>> keep_probability(0.25)
    0.75
    >>> course_year(2018)
    >>> keep_probability(0.25)
    0.25
    """
    global _year
    if not 2015 <= year <= 2100:
        raise ConfigurationError(f"expected the year of a course, 2015 or later, got {year}")
    _year = year


def p_keeps() -> bool:
    """Whether p of dropout is the probability to keep a value instead of to drop it."""
    return _year >= 2018


def first_assignment_penalty() -> str:
    """Return the L2 convention of the first assignment's classifiers, "half" or "full"."""
    return "full" if _year >= 2017 else "half"


def keep_probability(p: Any, *, name: str = "p in dropout_param") -> float:
    """Return the probability to keep a value, given p of this year's convention."""
    keep = p if p_keeps() else 1 - p
    if 0 < keep <= 1:
        return float(keep)
    if p_keeps():
        raise ConfigurationError(
            f"{name}: expected the probability to keep, above 0 and at most 1, got {p}. In "
            f"notebooks up to 2017 it is the probability to drop: call "
            f"jaxnet.cs231n.course_year(2017) first"
        )
    raise ConfigurationError(
        f"{name}: expected the probability to drop, from 0 to below 1, got {p}. In notebooks from "
        f"2018 it is the probability to keep: call jaxnet.cs231n.course_year(2018) first"
    )
