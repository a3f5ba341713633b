"""The tests that need no finite difference, each with a gradient that only it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnet.gradcheck import check_grads

X = np.array([0.3, -1.2, 2.0])


def outcomes(report):
    return {check.name: check.outcome for check in report.exact}


def rule(forward, backward):
    f = jax.custom_vjp(jnp.sin)
    f.defvjp(lambda x: (forward(x), x), lambda x, dout: (backward(x, dout),))
    return lambda x: f(x)


def right(x, dout):
    return jnp.cos(x) * dout


def test_right_rules_pass_all_of_them():
    report = check_grads(jnp.sin, (X,))
    assert set(outcomes(report).values()) == {"ok"}
    report = check_grads(rule(jnp.sin, right), (X,), reference=jnp.sin)
    assert outcomes(report) == {
        "deterministic": "ok",
        "primal equal": "ok",
        "linear in cotangent": "ok",
        "zero cotangent": "ok",
        "dot test": "n/a",
        "reference equal": "ok",
    }
    assert "dot test n/a (custom_vjp)" in " ".join(str(report).split())


@pytest.mark.parametrize(
    ("backward", "failed"),
    [
        (lambda x, dout: jnp.cos(x), {"linear in cotangent", "zero cotangent"}),
        (lambda x, dout: right(x, dout) + 1e-3, {"linear in cotangent", "zero cotangent"}),
        (lambda x, dout: jnp.cos(x) * abs(dout), {"linear in cotangent"}),
        (lambda x, dout: jnp.cos(x) * jnp.maximum(dout, 0), {"linear in cotangent"}),
        (lambda x, dout: jnp.cos(x) * dout**3, {"linear in cotangent"}),
    ],
)
def test_gradients_must_be_linear_in_the_cotangent(backward, failed):
    report = check_grads(lambda x: rule(jnp.sin, backward)(x).sum(), (X,))
    assert {name for name, outcome in outcomes(report).items() if outcome == "failed"} >= failed
    assert report.verdict == "FAIL"


def test_layers_must_be_linear_in_the_cotangent():
    def forward(x):
        return jnp.sin(x), x

    report = check_grads(forward, (X,), backward=lambda dout, x: right(x, dout))
    assert outcomes(report)["linear in cotangent"] == "ok"
    report = check_grads(
        forward, (X,), backward=lambda dout, x: right(x, dout), cotangent=np.ones(3)
    )
    assert report.verdict == "PASS"
    # A constant cotangent hides this from every finite difference.
    report = check_grads(forward, (X,), backward=lambda dout, x: jnp.cos(x), cotangent=np.ones(3))
    assert report.leaves[0].verdict == "PASS"
    assert report.verdict == "FAIL"


def test_the_forward_pass_of_a_rule_must_give_the_values_of_f():
    report = check_grads(rule(lambda x: jnp.sin(x) + 1e-6, right), (X,))
    assert outcomes(report)["primal equal"] == "failed"
    assert report.verdict == "FAIL"


def test_a_reference_must_give_the_values_of_f():
    report = check_grads(rule(jnp.sin, right), (X,), reference=lambda x: jnp.sin(x) + 1e-6)
    assert outcomes(report)["reference equal"] == "failed"
    assert report.verdict == "FAIL"


def test_transposes_must_match_forward_mode():
    def transpose_wrong(x):
        def product(v):
            return 2 * v

        return jax.lax.custom_linear_solve(
            product, x, lambda mv, b: b / 2, transpose_solve=lambda mv, b: b / 3
        )

    report = check_grads(transpose_wrong, (X,))
    assert outcomes(report)["dot test"] == "failed"
    assert report.verdict == "FAIL"


def test_random_numbers_of_the_host_are_seen_though_tracing_freezes_them():
    rng = np.random.default_rng(0)
    report = check_grads(lambda x: jnp.sum(x * rng.normal(size=3)), (X,))
    assert outcomes(report) == {"deterministic": "failed"}
    assert report.verdict == "INCONCLUSIVE"
    report = check_grads(
        lambda x, key: jnp.sum(x * jax.random.normal(key, (3,), x.dtype)),
        (
            X,
            jax.random.key(0),
        ),
    )
    assert report.verdict == "PASS"


def test_structure_and_zeros_are_told():
    report = check_grads(lambda x, y: jnp.sum(x), (X, X))
    assert any("exactly zero in y" in note for note in report.notes)
