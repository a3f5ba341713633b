"""No wrong rule of an elementwise function passes anywhere, and no right one fails.

The points are x from −50 to 50, in f(x), f of x times 1e-20 to 1e20, f times that, and both, with
f(x/s) so that its features stay. Derivatives that lose no digits are the oracle.
"""

from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnet import check_grads
from tests.gradcheck.elementwise_table import TABLE, Row, rules_of

_SEEN = 5e-4  # relative error from which on a rule counts as wrong at a point


def points(row: Row, count: int, seed: int) -> list[tuple[float, float, float]]:
    """Return (x, s, c) of c·f(x/s)."""
    rng = np.random.default_rng([seed, *row.name.encode()])
    found = []
    for number in range(count):
        x = abs(rng.uniform(-50, 50)) if row.positive else rng.uniform(-50, 50)
        a, b = 10.0 ** rng.uniform(-20, 20, 2)
        found.append([(x, 1.0, 1.0), (x * a, 1.0, 1.0), (x, 1.0, b), (x * a, a, b)][number % 4])
    return found


def verdicts(row: Row, name: str, by_rule: bool, count: int, seed: int) -> Counter[str]:
    """Return how often each verdict fell on a rule where it is right, or where it is wrong."""
    rule = rules_of(row)[name]

    @jax.custom_vjp
    def ruled(x):
        return row.f(x)

    ruled.defvjp(lambda x: (row.f(x), x), lambda x, dout: (dout * rule(x),))
    found: Counter[str] = Counter()
    for x, s, c in points(row, count, seed):
        with jax.enable_x64(True):
            at = jnp.float64(x / s)
            value, right, tested = (float(c * g(at)) for g in (row.f, row.derivative, rule))
        if not np.isfinite([value, right / s, tested / s]).all():
            continue
        wrong = abs(tested - right) >= _SEEN * abs(right) and tested != right
        if wrong == (name == "right"):
            continue
        args = np.float64(x), np.float64(s), np.float64(c)
        if by_rule:
            report = check_grads(lambda x, s, c: c * ruled(x / s), args, argnums=0)
        else:
            report = check_grads(
                lambda x, s, c: c * row.f(x / s),
                args,
                grad=lambda x, s, c: c * rule(x / s) / s,
                argnums=0,
            )
        found[report.verdict] += 1
    return found


def judge(row: Row, names: list[str], count: int, seed: int, by_rule: bool) -> None:
    for name in names:
        found = verdicts(row, name, by_rule, count, seed)
        if name == "right":
            assert found["FAIL"] == 0, (row.name, name, found)
        else:
            assert found["PASS"] == found["KINK"] == 0, (row.name, name, found)


@pytest.mark.parametrize("number", range(len(TABLE)), ids=[row.name for row in TABLE])
def test_wrong_rules_do_not_pass_and_right_ones_do_not_fail(number):
    row = TABLE[number]
    faults = [name for name in rules_of(row) if name != "right"]
    names = ["right", faults[number % 5], *(["lossy"] if row.lossy else [])]
    judge(row, names, 4, seed=number, by_rule=number % 2 == 0)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(TABLE)), ids=[row.name for row in TABLE])
def test_no_planted_rule_passes_on_a_thousand_points(number):
    """34 points a function are 1,020 in all; each function has a fault of its turn."""
    row = TABLE[number]
    faults = [name for name in rules_of(row) if name != "right"]
    for name in [faults[number % 5], *(["lossy"] if row.lossy else [])]:
        found = verdicts(row, name, number % 2 == 0, 34, seed=1000 + number)
        assert found["PASS"] == found["KINK"] == 0, (row.name, name, found)
        assert found.total() > 0
