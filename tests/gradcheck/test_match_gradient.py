"""What a gradient may look like in each convention, and what is said of one that does not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnet.errors import ConfigurationError
from jaxnet.gradcheck import check_grads

X = np.array([0.3, -1.2, 2.0])
INDEX = np.array([2, 0])
FLOAT0 = np.zeros(INDEX.shape, jax.dtypes.float0)


def words(report):
    return " ".join(str(report).split())


# Gradients that are wrong in kind

WRONG = {
    "nan": (lambda g: g.at[1].set(jnp.nan), "NaN or infinity in 1 of 3 entries"),
    "infinity": (lambda g: g.at[1].set(jnp.inf), "NaN or infinity in 1 of 3 entries"),
    "shape": (lambda g: g[:2], r"shape \(2,\), expected \(3,\)"),
    "transposed": (lambda g: g[:, None], r"shape \(3, 1\), expected \(3,\)"),
    "integers": (lambda g: g.astype(int), "dtype int64, expected floats: convert with astype"),
    "booleans": (lambda g: g > 0, "dtype bool, expected floats"),
    "complex": (lambda g: g + 0j, "dtype complex128, expected floats: return its real part"),
    "float0": (lambda g: np.zeros(3, jax.dtypes.float0), "a float0 gradient was returned"),
    "text": (lambda g: "2x", "expected floats"),
    "object": (lambda g: object(), "dtype object, expected floats"),
    "none": (lambda g: None, "no gradient was returned, which means zero"),
    "dict": (lambda g: {"a": g}, r"no gradient of x was returned \(got x/a\)"),
    "list": (lambda g: [g, g], "no gradient of x was returned .got x/0, x/1"),
    "empty": (lambda g: {}, r"no gradient of x was returned \(got nothing\)"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_kinds_fail_in_grad_and_backward(kind):
    spoil, says = WRONG[kind]
    by_grad = check_grads(lambda x: jnp.sum(x**2), (X,), grad=lambda x: spoil(2 * x))
    by_backward = check_grads(
        lambda x: (x**2, x), (X,), backward=lambda dout, x: spoil(2 * x * dout)
    )
    for report in (by_grad, by_backward):
        assert [leaf.verdict for leaf in report.leaves] == ["FAIL"]
        with pytest.raises(AssertionError, match=says):
            raise AssertionError(words(report))


def with_rule(spoil):
    rule = jax.custom_vjp(lambda x: x**2)
    rule.defvjp(lambda x: (x**2, x), lambda x, dout: spoil(2 * x * dout))
    return lambda x: rule(x)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda g: (g, g), "structure"),
        (lambda g: g, "tuple"),
        (lambda g: ({"a": g},), "structure"),
        (lambda g: (g[:2],), r"float64\[2\].*float64\[3\]"),
    ],
)
def test_rules_of_the_wrong_structure_are_refused_in_the_words_of_jax(spoil, says):
    with pytest.raises(ConfigurationError, match=rf"cannot differentiate f.*{says}.*correct its"):
        check_grads(with_rule(spoil), (X,))


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda g: (g.at[1].set(jnp.nan),), "NaN or infinity in 1 of 3 entries"),
        (lambda g: (g.astype(int),), "differs"),
        (lambda g: (None,), "zero"),
    ],
)
def test_rules_that_give_no_number_fail(spoil, says):
    report = check_grads(with_rule(spoil), (X,))
    assert report.verdict == "FAIL"
    assert says in words(report)


def test_a_wrong_structure_of_several_arguments_names_the_argument():
    def f(x, y):
        return jnp.sum(x * y["a"])

    args = (X, {"a": X})
    report = check_grads(f, args, grad=lambda x, y: (y["a"], {"b": x}))
    assert {leaf.path: leaf.verdict for leaf in report.leaves} == {"x": "PASS", "y/a": "FAIL"}
    assert "no gradient of y/a was returned (got y/b)" in words(report)
    with pytest.raises(ConfigurationError, match=r"tuple with one entry per argument \(x, y\)"):
        check_grads(f, args, grad=lambda x, y: y["a"])
    with pytest.raises(ConfigurationError, match=r"2 entries.*\(x, y\), got 3"):
        check_grads(lambda x, y: (f(x, y), 0), args, backward=lambda dout, cache: (dout,) * 3)


# Complex numbers


@pytest.mark.parametrize("value", [X + 1j, np.complex64(1 + 2j), 1j, [jnp.ones(2, complex)]])
def test_complex_arguments_are_refused_with_the_way_out(value):
    with pytest.raises(ConfigurationError, match=r"complex.*split it.*real and imaginary parts"):
        check_grads(lambda z: jnp.sum(jnp.abs(jax.tree.leaves(z)[0]) ** 2), (value,))


def test_the_way_out_of_complex_arguments_works():
    def f(x, y):
        return jnp.sum(jnp.abs(jnp.exp(x + 1j * y)) ** 2)

    assert check_grads(f, (X, X)).verdict == "PASS"
    report = check_grads(lambda x, z: jnp.sum(x * jnp.abs(z)), (X, X + 1j), argnums=0)
    assert report.verdict == "PASS"


# Integer arguments beside floats


def gathered(x, index, scale):
    return x[index] * scale


@pytest.mark.parametrize("nothing", [None, FLOAT0])
def test_a_rule_may_return_none_or_float0_for_integers(nothing):
    def ruled(factor):
        rule = jax.custom_vjp(gathered)
        rule.defvjp(lambda *args: (gathered(*args), args), lambda args, dout: take(args, dout))

        def take(args, dout):
            x, index, scale = args
            dx = jnp.zeros_like(x).at[index].add(factor * scale * dout)
            return dx, nothing, jnp.sum(x[index] * dout)

        return lambda *args: rule(*args)

    args = (X, INDEX, np.array(1.5))
    right = check_grads(ruled(1.0), args, reference=gathered)
    assert right.verdict == "PASS", str(right)
    assert [leaf.path for leaf in right.leaves] == ["args[0]", "args[2]"]
    low = (jnp.asarray(X, jnp.float32), INDEX.astype(np.int32), jnp.float32(1.5))
    assert check_grads(ruled(1.0), low).verdict == "PASS"
    wrong = check_grads(ruled(2.0), args)
    assert [leaf.verdict for leaf in wrong.leaves] == ["FAIL", "PASS"]


@pytest.mark.parametrize("nothing", [None, FLOAT0, np.zeros(2, int), np.zeros(2)])
def test_a_backward_pass_may_return_anything_for_integers(nothing):
    def forward(x, index, scale):
        return gathered(x, index, scale), (x, index, scale)

    def backward(dout, cache, factor=1.0):
        x, index, scale = cache
        dx = jnp.zeros_like(x).at[index].add(factor * scale * dout)
        return dx, nothing, jnp.sum(x[index] * dout)

    args = (X, INDEX, np.array(1.5))
    assert check_grads(forward, args, backward=backward).verdict == "PASS"
    report = check_grads(forward, args, backward=lambda d, c: backward(d, c, 2.0))
    assert [leaf.verdict for leaf in report.leaves] == ["FAIL", "PASS"]


@pytest.mark.parametrize("nothing", [None, FLOAT0])
def test_integers_inside_a_tree_of_parameters_need_no_gradient(nothing):
    def f(params):
        return jnp.sum(params["w"][params["index"]] ** 2)

    def grad(params):
        w, index = params["w"], params["index"]
        return {"w": jnp.zeros_like(w).at[index].add(2 * w[index]), "index": nothing}

    assert check_grads(f, ({"w": X, "index": INDEX},), grad=grad).verdict == "PASS"


def test_integer_outputs_get_cotangents_of_float0():
    def forward(x):
        return (x**2, jnp.argmax(x)), x

    seen = []

    def backward(dout, x):
        seen.append(dout[1].dtype)
        return 2 * x * dout[0]

    assert check_grads(forward, (X,), backward=backward).verdict == "PASS"
    assert set(seen) == {jax.dtypes.float0}
