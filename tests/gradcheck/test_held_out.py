"""The checker over bugs and cases that were written when it was finished."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.gradcheck_zoo import BUGS, CASES, cast
from benchmarks.gradcheck_zoo.held_out import HELD_OUT_BUGS, HELD_OUT_CASES
from jaxnet.gradcheck import check_grads

pytestmark = pytest.mark.slow
SEEDS = (0, 1, 2)
KNOWN = {
    "tied winners all": "a tie is excused by the right gradient beside it, though shifting the "
    "tied entries together is smooth",
}
KNOWN_IN_FLOAT32 = KNOWN | dict.fromkeys(
    ("clipped by a norm of 1", "clipped by a norm near 1"),
    "rounding to float32 crosses a kink: the gradient in float32 is that of the other side",
)


def rows(table, known=KNOWN):
    def marks(name):
        reason = known.get(name)
        return [pytest.mark.xfail(strict=True, reason=reason)] if reason else []

    return [pytest.param(row, id=row.name, marks=marks(row.name)) for row in table]


def relative(got, want):
    total = np.sqrt(sum(np.linalg.norm(w) ** 2 for w in want))
    pairs = zip(got, want, strict=True)
    return max(np.linalg.norm(g - w) / max(np.linalg.norm(w), 1e-3 * total) for g, w in pairs)


def test_names_are_told_apart():
    names = [row.name for row in (*BUGS, *CASES, *HELD_OUT_BUGS, *HELD_OUT_CASES)]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("bug", HELD_OUT_BUGS, ids=lambda bug: bug.name)
def test_the_right_gradient_is_that_of_autodiff_and_the_wrong_one_is_not(bug):
    with jax.enable_x64(True):
        args = cast(bug.args, jnp.float64)
        out, pull = jax.vjp(bug.f, *args)
        generator = np.random.default_rng(0)
        signs = generator.choice([-1.0, 1.0], out.shape)
        dout = jnp.asarray(signs * generator.uniform(0.5, 1.5, out.shape))
        want = [np.asarray(g) for g in pull(dout)]
        assert relative(bug.right(dout, *args), want) < 1e-10
        assert not relative(bug.wrong(dout, *args), want) < 1e-9


@pytest.mark.parametrize("case", HELD_OUT_CASES, ids=lambda case: case.name)
def test_the_gradient_of_a_case_is_that_of_autodiff(case):
    if case.kink:
        pytest.skip("autodiff has its own convention at a kink")
    with jax.enable_x64(True):
        args = cast(case.args, jnp.float64)
        want = jax.jacfwd(case.f, range(len(args)))(*args)
        assert relative(case.grad(*args), [np.asarray(w) for w in want]) < 1e-10


@pytest.mark.parametrize("bug", rows(HELD_OUT_BUGS))
def test_bugs_fail_and_right_gradients_pass(bug):
    forward, wrong = bug.layer(bug.wrong)
    reports = [check_grads(forward, bug.args, backward=wrong, seed=seed) for seed in SEEDS]
    reports.append(check_grads(bug.custom_vjp(bug.wrong), bug.args))  # no right autodiff beside it
    assert [report.verdict for report in reports] == ["FAIL"] * len(reports), str(reports[0])
    report = check_grads(forward, bug.args, backward=bug.layer(bug.right)[1])
    assert report.verdict == ("KINK" if bug.kink else "PASS"), str(report)


@pytest.mark.parametrize("case", rows(HELD_OUT_CASES))
def test_cases_are_not_accused(case):
    for seed in SEEDS:
        report = check_grads(case.f, case.args, grad=case.grad, seed=seed, **case.settings)
        assert report.verdict in case.allowed, str(report)


@pytest.mark.parametrize("case", rows(HELD_OUT_CASES, KNOWN_IN_FLOAT32))
def test_cases_are_not_accused_in_float32(case):
    if case.name == "arccos near 1":
        pytest.skip("rounded to float32 it is at 1, where the slope is infinite")
    args = cast(case.args, jnp.float32)
    report = check_grads(case.f, args, grad=case.grad, **case.settings)
    assert report.verdict in case.allowed, str(report)
