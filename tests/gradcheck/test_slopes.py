"""At a kink, a gradient between the one-sided slopes of every entry is KINK, any other FAIL."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnet.gradcheck import check_grads


def clip(x):
    return jnp.clip(x, -1, 1).sum()


def pools(x):
    return jnp.dot(jnp.array([1.0, -2.0]).astype(x.dtype), x.reshape(2, 2).max(axis=1))


def hinge(x):
    return jnp.maximum(0, 1 - x).sum()


def steeper(x):
    return jnp.where(x > 0, 3 * x, x).sum()


def beside_a_square(x):
    return abs(x[0]) + x[1] ** 2


def curved(x):
    return jnp.exp(abs(x)).sum() + jnp.sin(x).sum()


# name: (function, point, lowest slope and highest slope of each entry, by hand)
KINKS = {
    "abs": (lambda x: abs(x).sum(), [0.0], [-1], [1]),
    "relu": (lambda x: jnp.maximum(x, 0).sum(), [0.0, 2.0, -3.0], [0, 1, 0], [1, 1, 0]),
    "leaky relu": (lambda x: jax.nn.leaky_relu(x, 0.1).sum(), [0.0, -1.0], [0.1, 0.1], [1, 0.1]),
    "max of two": (lambda x: jnp.maximum(x[0], x[1]), [1.5, 1.5], [0, 0], [1, 1]),
    "max of four": (lambda x: x.max(), [2.0, 2.0, -1.0, 2.0], [0, 0, 0, 0], [1, 1, 0, 1]),
    "hinge": (hinge, [1.0, 0.5, 1.4], [-1, -1, 0], [0, -1, 0]),
    "clip": (clip, [1.0, -1.0, 0.3, 2.0], [0, 0, 1, 0], [1, 1, 1, 0]),
    "abs of a sum": (lambda x: abs(x.sum()), [1.0, 2.0, -3.0], [-1, -1, -1], [1, 1, 1]),
    "L1 norm": (lambda x: abs(x).sum(), [0.0, -2.0, 0.0], [-1, -1, -1], [1, -1, 1]),
    "max pool": (pools, [1.0, 1.0, 3.0, 3.0], [0, 0, -2, -2], [1, 1, 0, 0]),
    "slopes 1 and 3": (steeper, [0.0, 1.0], [1, 3], [3, 3]),
    "abs beside a square": (beside_a_square, [0.0, 0.7], [-1, 1.4], [1, 1.4]),
    "curved": (curved, [0.0, 0.5], [0, np.exp(0.5) + np.cos(0.5)], [2, np.exp(0.5) + np.cos(0.5)]),
}
MODES = ("directional", "sampled", "full")


def given(f, point, g):
    """Return a gradient that is g at the point, and right everywhere else."""
    return lambda x: jnp.where((x == point).all(), jnp.asarray(g, x.dtype), jax.grad(f)(x))


def ruled(f, gradient):
    """Return f with the gradient as its custom rule."""
    rule = jax.custom_vjp(f)
    rule.defvjp(lambda x: (f(x), x), lambda x, dout: (dout * gradient(x),))
    return rule


def draws(name):
    """Return gradients between the slopes, and gradients with one entry outside."""
    _, _, low, high = KINKS[name]
    low, high = np.array(low, float), np.array(high, float)
    rng = np.random.default_rng(sorted(KINKS).index(name))
    kinked = np.flatnonzero(high > low)
    inside, outside = [low, high, (low + high) / 2], []
    while len(inside) < 16:
        inside.append(np.clip(rng.uniform(low, high), low, high))
    while len(outside) < 16:
        g, at = rng.uniform(low, high), rng.choice(kinked)
        away = 10 ** rng.uniform(-4, 6)  # how far outside
        g[at] = high[at] + away if rng.random() < 0.5 else low[at] - away
        outside.append(g)
    return inside, outside


@pytest.mark.slow
@pytest.mark.parametrize("name", KINKS)
def test_slopes_that_the_one_sided_ones_allow_are_kinks_and_others_fail(name):
    f, point, *_ = KINKS[name]
    point = np.array(point)
    for verdict, gradients in zip(("KINK", "FAIL"), draws(name), strict=True):
        ways = itertools.cycle(itertools.product(MODES, ("grad", "rule", "reference")))
        for g, (mode, way) in zip(gradients, ways, strict=False):
            gradient, more = given(f, point, g), {"mode": mode}
            if way == "grad":
                report = check_grads(f, (point,), grad=gradient, **more)
            else:
                more |= {"reference": f} if way == "reference" else {}
                report = check_grads(ruled(f, gradient), (point,), **more)
            assert report.verdict == verdict, (g, mode, way, str(report))


def test_the_slopes_are_told_where_a_gradient_lies_outside_of_them():
    report = check_grads(lambda x: abs(x).sum(), (np.array([3.0, 0.0]),), grad=lambda x: x + 2)
    assert report.verdict == "FAIL"
    point = np.array([3.0, 0.0])
    f = KINKS["abs"][0]
    leaf = check_grads(f, (point,), grad=given(f, point, [1, 1.0001])).leaves[0]
    assert leaf.verdict == "FAIL"
    assert leaf.worst.index == (1,)
    assert leaf.reason == "at a kink with one-sided slopes -1 and 1, 1.0001 lies outside"


@pytest.mark.parametrize("mode", MODES)
def test_what_does_not_kink_is_judged_beside_what_does(mode):
    def f(x):
        return abs(x[0]) + x[1] ** 2 + jnp.sin(x[2])

    point = np.array([0.0, 0.7, 0.3])
    right = np.array([0.5, 1.4, np.cos(0.3)])
    assert check_grads(f, (point,), grad=given(f, point, right), mode=mode).verdict == "KINK"
    for wrong in ([0.5, 1.41, np.cos(0.3)], [0.5, 1.4, -1.0], [-1.0, 0.0, 0.0]):
        assert check_grads(f, (point,), grad=given(f, point, wrong), mode=mode).verdict == "FAIL"
    beside = check_grads(f, (point,), grad=lambda x: jnp.asarray(right) + 0 * x, mode=mode)
    assert beside.verdict == "FAIL"  # right at the point alone
    assert "wrong beside it too" in beside.leaves[0].reason


def test_a_large_leaf_is_judged_without_what_kinks_by_its_rule_alone():
    x = many(200, [5])
    right = np.asarray(np.sign(x) + 2 * np.cos(2 * x))
    for wrong, verdict in [(0.0, "KINK"), (1e-3, "FAIL")]:
        g = right.copy()
        g[77] += wrong  # at the point alone, and no other gradient tells
        report = check_grads(ruled(of_many, given(of_many, x, g)), (x,))
        assert report.verdict == verdict, str(report)
    assert report.leaves[0].worst.index == (77,)


def many(size, zeros):
    x = np.random.default_rng(0).normal(size=size)
    x[zeros] = 0
    return x


def of_many(x):
    return abs(x).sum() + jnp.sin(2 * x).sum()


LARGE = {
    "a handful": (80_000, [7, 300, 40_000, 40_001, 79_999]),
    "the first": (5_000, [0]),
    "a block": (5_000, range(1000, 1100)),
}


@pytest.mark.parametrize("name", LARGE)
def test_few_entries_at_a_kink_are_found_in_a_large_leaf(name):
    size, zeros = LARGE[name]
    zeros = list(zeros)
    x, rng = many(size, zeros), np.random.default_rng(1)

    def gradient(x, slopes=0.0, other=0.0):
        g = jnp.sign(x) + 2 * jnp.cos(2 * x)
        return g.at[jnp.array(zeros)].add(jnp.where(x[jnp.array(zeros)] == 0, slopes, 0)) + other

    slopes = rng.uniform(-1, 1, len(zeros))
    report = check_grads(of_many, (x,), grad=lambda x: gradient(x, slopes))
    assert report.verdict == "KINK", str(report)
    slopes[-1] = 1.01
    report = check_grads(of_many, (x,), grad=lambda x: gradient(x, slopes))
    assert report.verdict == "FAIL", str(report)
    assert report.leaves[0].worst.index == (zeros[-1],)
    wrong = jnp.zeros(size).at[17].set(1e-3)
    report = check_grads(of_many, (x,), grad=lambda x: gradient(x, other=wrong * (x != 0)))
    assert report.verdict == "FAIL", str(report)
    assert report.leaves[0].worst.index == (17,)


def test_of_very_many_entries_at_a_kink_some_are_looked_at_and_told_so():
    size = 20_000
    x = np.zeros(size)
    report = check_grads(lambda x: abs(x).sum(), (x,))
    assert report.verdict == "KINK"
    (note,) = [note for note in report.notes if "convention" in note]
    assert "of the more than 256 entries that kink" in note
    for wrong in (np.full(size, 1.5), np.eye(1, size, 4_321)[0] * 1.5):
        gradient = given(lambda x: abs(x).sum(), x, wrong)
        assert check_grads(lambda x: abs(x).sum(), (x,), grad=gradient).verdict == "FAIL"


@pytest.mark.parametrize("size", [4, 200])
def test_entries_that_kink_only_together_are_judged_along_their_own_lines(size):
    def f(x):  # no coordinate kinks, the diagonal of the first two does
        return jnp.minimum(abs(x[0]), abs(x[1])) + (x[2:] ** 2).sum()

    x = np.random.default_rng(0).normal(size=size)
    x[:2] = 0
    right = np.concatenate([[0, 0], 2 * x[2:]])
    report = check_grads(f, (x,), grad=given(f, x, right))
    assert report.verdict == ("KINK" if size == 4 else "INCONCLUSIVE"), str(report)
    right[0] = 0.5
    assert check_grads(f, (x,), grad=given(f, x, right)).verdict in ("FAIL", "INCONCLUSIVE")
