"""Planted bugs and tricky right gradients: the zoo itself, then the checker over it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.gradcheck_zoo import BUGS, CASES, cast
from jaxnet.gradcheck import check_grads

pytestmark = pytest.mark.slow
every_bug = pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def cotangent(out, seed=0):
    generator = np.random.default_rng(seed)
    signs = generator.choice([-1.0, 1.0], out.shape)
    return jnp.asarray(signs * generator.uniform(0.5, 1.5, out.shape), out.dtype)


def distance(got, want):
    """Return the largest relative error of norms over the leaves."""
    pairs = [
        (np.asarray(a, np.float64), np.asarray(b, np.float64))
        for a, b in zip(got, want, strict=True)
    ]
    total = np.sqrt(sum(np.linalg.norm(b) ** 2 for _, b in pairs))
    return max(np.linalg.norm(a - b) / max(np.linalg.norm(b), 1e-3 * total) for a, b in pairs)


# The zoo itself


@every_bug
def test_the_right_gradient_is_that_of_autodiff_and_the_wrong_one_is_not(bug):
    with jax.enable_x64(True):
        args = cast(bug.args, jnp.float64)
        out, pull = jax.vjp(bug.f, *args)
        dout = cotangent(out)
        want, right, wrong = pull(dout), bug.right(dout, *args), bug.wrong(dout, *args)
        assert [g.shape for g in wrong] == [g.shape for g in want]
        assert distance(right, want) < 1e-10
        error = distance(wrong, want)
        assert not error <= 1e-6 if bug.visible else error < 1e-12


@every_case
def test_the_gradient_of_a_case_is_that_of_autodiff(case):
    if case.kink or case.grad is None:
        pytest.skip("autodiff has its own convention at a kink")
    with jax.enable_x64(True):
        args = cast(case.args, jnp.float64)
        has_aux = case.settings.get("has_aux", False)
        argnums = [i for i, g in enumerate(case.grad(*args)) if g is not None]

        def f(*chosen):
            full = list(args)
            for i, value in zip(argnums, chosen, strict=True):
                full[i] = value
            out = case.f(*full)
            return out[0] if has_aux else out

        # Forward mode: a while loop has no reverse one.
        want = jax.tree.leaves(jax.jacfwd(f, range(len(argnums)))(*[args[i] for i in argnums]))
        got = jax.tree.leaves(case.grad(*args))
        tolerance = 2e-2 if "bfloat16" in case.name else 1e-10
        assert len(got) == len(want)
        for a, b in zip(got, want, strict=True):
            a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
            np.testing.assert_allclose(
                a, b, rtol=tolerance, atol=1e-10 * np.abs(b).max(initial=0) + 1e-15
            )


# The checker over the zoo, with its defaults where nothing else is said

SEEDS = (0, 1, 2)
FULL = 200  # entries: the largest arguments checked by every coordinate
LARGE = 1_000_000


def size(args):
    return sum(np.size(leaf) for leaf in jax.tree.leaves(args))


SETTINGS = [*({"seed": seed} for seed in SEEDS), {"mode": "full"}]


def verdicts(bug, vjp):
    """Return the verdicts with every setting, in float64, and in float32."""
    forward, backward = bug.layer(vjp)
    narrow = cast(bug.args, jnp.float32)
    runs = [
        (bug.args, settings)
        for settings in SETTINGS
        if size(bug.args) <= FULL or "seed" in settings
    ]
    found = {str(s): check_grads(forward, a, backward=backward, **s).verdict for a, s in runs}
    return found | {"float32": check_grads(forward, narrow, backward=backward).verdict}


@every_bug
def test_bugs_fail_and_right_gradients_pass(bug):
    found = verdicts(bug, bug.wrong)
    assert found == dict.fromkeys(found, "FAIL" if bug.visible else "PASS")
    found = verdicts(bug, bug.right)
    assert found == dict.fromkeys(found, "PASS")


def test_what_is_invisible_is_warned_about():
    (bug,) = [bug for bug in BUGS if not bug.visible]
    forward, backward = bug.layer(bug.wrong)
    report = check_grads(forward, bug.args, backward=backward, jitter=True)
    assert any("all ones" in note for note in report.notes)
    assert (report.verdict, report.jittered.verdict) == ("FAIL", "FAIL")


@every_case
def test_cases_are_not_accused(case):
    in_float64 = [(case.args, settings) for settings in SETTINGS]
    for args, settings in [*in_float64, (cast(case.args, jnp.float32), {})]:
        report = check_grads(case.f, args, grad=case.grad, **settings, **case.settings)
        assert report.verdict in case.allowed, str(report)


@pytest.mark.parametrize("bug", [b for b in BUGS if b.visible][::8], ids=lambda bug: bug.name)
def test_the_scale_of_the_loss_does_not_matter(bug):
    def forward(exponent, *args):
        out = bug.f(*args)
        scale = jnp.asarray(10, out.dtype) ** exponent
        return scale * out, (scale, args)

    def verdict(exponent, vjp):
        def backward(dout, cache):
            scale, args = cache
            return None, *vjp(scale * dout, *args)

        args = np.array(exponent, np.int32), *bug.args
        return check_grads(forward, args, backward=backward).verdict

    assert [verdict(exponent, bug.right) for exponent in (-9, 9)] == ["PASS"] * 2
    assert [verdict(exponent, bug.wrong) for exponent in (-9, 9)] == ["FAIL"] * 2


def test_an_unrelated_leaf_of_a_million_entries_does_not_matter():
    (bug,) = [bug for bug in BUGS if bug.name == "l2 missing"]
    unrelated = np.random.default_rng(5).normal(size=LARGE)

    def f(large, *args):
        return jnp.square(large).sum() + jnp.sin(bug.f(*args)).sum()

    def gradient(vjp):
        def grad(large, *args):
            return 2 * large, *vjp(jnp.cos(bug.f(*args)), *args)

        return grad

    args = (unrelated, *bug.args)
    report = check_grads(f, args, grad=gradient(bug.wrong))
    assert report.verdict == "FAIL"
    assert report.leaves[0].verdict == "PASS"
    assert check_grads(f, args, grad=gradient(bug.right)).verdict == "PASS"
