"""Degenerate points are noted with what to change, never a verdict; healthy nets give no note."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnet.gradcheck import check_grads

RNG = np.random.default_rng(0)
X, LABELS = RNG.normal(size=(6, 5)), np.array([0, 1, 0, 1, 1, 0])
PARAMS = {
    "w": RNG.normal(size=(5, 5)),
    "b": RNG.normal(size=5),
    "v": RNG.normal(size=(5, 2)),
}

RELUS = {
    "jax.nn.relu": jax.nn.relu,
    "maximum": lambda x: jnp.maximum(x, 0),
    "maximum of 0 and x": lambda x: jnp.maximum(0.0, x),
    "where": lambda x: jnp.where(x > 0, x, 0),
    "where of at most 0": lambda x: jnp.where(x <= 0, 0, x),
    "leaky": jax.nn.leaky_relu,
    "jit": jax.jit(lambda x: jnp.maximum(x, 0)),
}


def network(relu, x=X, labels=LABELS):
    def loss(params):
        hidden = relu(x @ params["w"] + params["b"][None, :])
        log_p = jax.nn.log_softmax(hidden @ params["v"])
        return -jnp.mean(jnp.take_along_axis(log_p, labels[:, None], 1))

    return loss


def notes(f, *args, **settings):
    report = check_grads(f, args, **settings)
    assert report.verdict == "PASS", str(report)
    return report.notes


@pytest.mark.parametrize("relu", RELUS)
def test_a_healthy_net_gives_no_notes(relu):
    assert notes(network(RELUS[relu]), PARAMS) == ()
    assert notes(network(RELUS[relu], X[:1], LABELS[:1]), PARAMS) != ()


@pytest.mark.parametrize("relu", RELUS)
@pytest.mark.parametrize(("shift", "says"), [(50.0, "alive"), (-50.0, "dead")])
def test_units_on_one_side_are_noted_with_their_line(relu, shift, says):
    params = PARAMS | {"b": PARAMS["b"] + shift}
    (note,) = [n for n in notes(network(RELUS[relu]), params) if "relu" in n]
    assert f"every unit of a relu is {says}" in note
    assert "test_notes.py:" in note
    assert "give arguments at which some are" in note


@pytest.mark.parametrize(
    "f",
    [
        lambda x: jnp.sum(jnp.where(x**2 > 0, jnp.sqrt(x**2 + 1), 0)),  # guarded, no relu
        lambda x: jnp.sum(x * jnp.maximum(jnp.arange(1.0, 6.0), 0)[None, :].astype(x.dtype)),
        lambda x: jnp.sum(jnp.maximum(x, -100.0)),
        lambda x: jnp.maximum(jnp.sum(x**2), 0),  # one number
    ],
)
def test_what_is_no_relu_of_the_arguments_is_not_noted(f):
    assert notes(f, X) == ()


def test_every_relu_of_a_net_is_told_apart():
    def f(x):
        first = jax.nn.relu(x)
        second = jax.nn.relu(x + 50)
        return jnp.sum(first + second**2)

    (note,) = notes(f, X)
    assert "alive" in note


def test_a_mean_over_one_row_is_noted():
    for f in (
        lambda x: jnp.mean(jnp.sum(jnp.sin(x), axis=1)),
        lambda x: -jnp.mean(jnp.sin(x)),
        lambda x: jnp.sum(jnp.sin(x)) / len(x),
        jax.jit(lambda x: jnp.mean(jnp.sin(x), axis=0).sum()),
    ):
        (note,) = notes(f, X[:1])
        assert "a mean over one element (test_notes.py:" in note
        assert "two or more" in note
        assert notes(f, X) == ()
    assert notes(lambda x: jnp.sum(jnp.sin(x)), X[:1]) == ()
    assert notes(lambda x: jnp.mean(jnp.sin(x)), X[:, :1]) == ()  # one column is no batch of one


def test_matrices_that_equal_their_transpose_are_noted():
    symmetric = X[:5] + X[:5].T

    def f(w):
        return jnp.sum(jnp.sin(w) ** 2)

    for value in (symmetric, np.eye(3)):
        (note,) = notes(f, value)
        assert "w is its own transpose" in note
        assert "jitter=True" in note
    assert notes(f, X[:5]) == notes(f, X) == ()
    # A transposed gradient passes at such a point, and fails beside it.
    transposed = check_grads(f, (symmetric,), grad=lambda w: jnp.sin(2 * w).T)
    assert transposed.verdict == "PASS"
    beside = check_grads(f, (symmetric,), grad=lambda w: jnp.sin(2 * w).T, jitter=True)
    assert beside.verdict == "FAIL"


def test_a_constant_cotangent_is_noted():
    (note,) = notes(jnp.sin, X, cotangent=np.ones(X.shape))
    assert "leave it out for a random one" in note
    assert notes(jnp.sin, X) == notes(jnp.sin, X, cotangent=X) == ()
    assert notes(lambda x: jnp.sum(x**2), X, cotangent=np.ones(())) == ()


def test_a_penalty_that_hides_the_loss_is_noted():
    def f(w, strength):
        return jnp.sum(jnp.sin(w)) + strength * jnp.sum(w**2)

    (note,) = notes(f, X, np.float64(1e13), argnums=0)
    assert note.startswith("w: all of the gradient but a share of")
    assert "check without it" in note
    for strength in (0.0, 0.1, 10.0, 1e4):
        assert notes(f, X, np.float64(strength), argnums=0) == ()
    assert notes(lambda w: jnp.sum(w**2), X) == ()  # nothing is hidden
    (note,) = check_grads(f, (X, 1e5), argnums=0, float32_only=True).notes
    assert "L2 term" in note


def test_nothing_is_noted_of_gates_in_what_cannot_be_interpreted(monkeypatch):
    from jaxnet.gradcheck.point import degenerate

    def broken(_):
        raise NotImplementedError

    monkeypatch.setattr(degenerate, "gates", broken)
    assert notes(lambda x: jnp.sum(jax.nn.relu(x + 50)), X) == ()
    assert notes(
        lambda x: float(np.sum(np.maximum(x, 0) ** 2)), X, grad=lambda x: 2 * np.maximum(x, 0)
    )
