"""Branch signatures: every primitive that chooses, on the right line, at the right points."""

import inspect
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.experimental import pallas as pl

from jaxnet.errors import ConfigurationError
from jaxnet.gradcheck.kinks.signature import (
    Site,
    changed_sites,
    signature,
    signature_function,
    sites_near,
)


def line_of(mark):
    lines = inspect.getsource(sys.modules[__name__]).splitlines()
    return next(i for i, line in enumerate(lines, 1) if line.endswith(f"# here: {mark}"))


def here(primitive, mark):
    return Site(primitive, __file__, line_of(mark))


def primitives(f, *args):
    found = signature_function(f, *args)
    assert not found.unread
    return [site.primitive for site in found.sites]


def windows(x):
    return lax.reduce_window(x, -jnp.inf, lax.max, (2,), (1,), "SAME")


def overlapping(x):
    return lax.reduce_window(x, jnp.inf, lax.min, (3,), (2,), ((2, 2),), (2,), (2,))


def integer(x):
    return x * x.astype("int32").astype(x.dtype)


def boolean(x):
    return x * x.astype(bool).astype(x.dtype)


def remainder(x):
    return lax.rem(x, 2 * jnp.ones_like(x))


# name: (function, primitive, a point, one with other winners, one with the same)
BRANCHES = {
    "max": (lambda x: jnp.maximum(x, 0), "max", [1, -1, 2], [1, 1, 2], [3, -4, 1]),
    "min": (lambda x: jnp.minimum(x, x[::-1]), "min", [1, 2, 3], [3, 2, 1], [0, 5, 9]),
    "abs": (abs, "abs", [1, -1, 2], [-1, -1, 2], [3, -3, 9]),
    "sign": (jnp.sign, "sign", [1, -1, 2], [1, -1, -2], [4, -1, 1]),
    "where": (lambda x: jnp.where(x > 1, x, 0), "select_n", [0, 2, 3], [2, 2, 3], [1, 9, 4]),
    "gt": (lambda x: jnp.where(x > 1, x, 0), "gt", [0, 2, 3], [2, 2, 3], [0.5, 9, 4]),
    "eq": (lambda x: jnp.where(x == 1, 0, x), "eq", [0, 1, 3], [0, 2, 3], [5, 1, 4]),
    "reduce_max": (jnp.max, "reduce_max", [1, 2, 3], [3, 2, 1], [2, 1, 9]),
    "reduce_min": (jnp.min, "reduce_min", [1, 2, 3], [3, 2, 1], [1, 9, 2]),
    "argmax": (lambda x: x[jnp.argmax(x)], "argmax", [1, 2, 3], [3, 2, 1], [2, 1, 9]),
    "argmin": (lambda x: x[jnp.argmin(x)], "argmin", [1, 2, 3], [3, 2, 1], [1, 9, 2]),
    "sort": (jnp.sort, "sort", [1, 3, 2], [3, 1, 2], [0, 9, 8]),
    "argsort": (lambda x: x[jnp.argsort(x)], "sort", [1, 3, 2], [3, 1, 2], [0, 9, 8]),
    "top_k": (lambda x: lax.top_k(x, 2)[0], "top_k", [1, 2, 3], [3, 2, 1], [1, 4, 9]),
    "floor": (jnp.floor, "floor", [0.2, 1.5, 2.5], [0.2, 2.5, 2.5], [0.9, 1.1, 2.9]),
    "ceil": (jnp.ceil, "ceil", [0.2, 1.5, 2.5], [0.2, 2.5, 2.5], [0.9, 1.1, 2.9]),
    "round": (jnp.round, "round", [0.2, 1.2, 2.2], [0.7, 1.2, 2.2], [0.4, 0.8, 2.4]),
    "integer": (integer, "convert_element_type", [3, 0, 0], [0, 3, 0], [3.5, 0, 0.5]),
    "boolean": (boolean, "convert_element_type", [1, 0, 1], [1, 1, 1], [2, 0, 3]),
    "rem": (remainder, "rem", [1, 3, 5], [1, 5, 5], [1.5, 2.5, 4.5]),
    "clamp": (lambda x: lax.clamp(0.0, x, 2.0), "clamp", [-1, 1, 3], [1, 1, 3], [-9, 0.5, 8]),
    "clip": (lambda x: jnp.clip(x, 0, 2), "min", [-1, 1, 3], [-1, 1, 1], [-9, 0.5, 8]),
    "cummax": (lax.cummax, "cummax", [1, 3, 2], [3, 1, 2], [0, 5, 4]),
    "cummin": (lambda x: lax.cummin(x, reverse=True), "cummin", [1, 3, 2], [3, 1, 2], [0, 5, 4]),
    "max_pool": (windows, "reduce_window_max", [1, 2, 3], [3, 2, 1], [4, 5, 6]),
    "min_pool": (overlapping, "reduce_window_min", [1, 9, 2], [3, 2, 9], [0, 5, 4]),
    "median": (jnp.median, "sort", [1, 3, 2], [3, 1, 2], [0, 9, 8]),
    "leaky_relu": (jax.nn.leaky_relu, "ge", [1, -1, 2], [1, 1, 2], [3, -4, 1]),
    "hinge": (lambda x: jax.nn.relu(1 - x), "max", [0, 2, 0], [2, 2, 0], [0.5, 3, 0.5]),
}  # fmt: skip


@pytest.mark.parametrize("name", BRANCHES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_signature_changes_with_the_winner_and_only_with_it(name, dtype):
    f, primitive, *points = BRANCHES[name]
    with jax.enable_x64(dtype == "float64"):
        points = [jnp.asarray(point, dtype) for point in points]
        function = signature_function(f, points[0])
        assert not function.unread
        at, other, same = (function.at(point) for point in points)
        assert primitive in [site.primitive for site in at.sites]
        assert changed_sites(at, same) == []
        changed = changed_sites(at, other)
        # A `where` on the line of its comparison goes by the comparison's name.
        assert {"select_n": "gt"}.get(primitive, primitive) in [site.primitive for site in changed]
        codes = jax.jit(jax.vmap(function.codes))(jnp.stack(points))
        np.testing.assert_array_equal(codes, [at.codes, other.codes, same.codes])


TIES = {
    "max": (lambda x: jnp.maximum(x, 0), "max", [1, 0, 2]),
    "relu": (jax.nn.relu, "max", [1, 0, 2]),
    "abs": (abs, "abs", [1, 0, 2]),
    "where": (lambda x: jnp.where(x > 1, x, 1), "gt", [0, 1, 2]),
    "reduce_max": (jnp.max, "reduce_max", [3, 1, 3]),
    "argmax": (jnp.argmax, None, [3, 1, 3]),
    "argmax used": (lambda x: x[jnp.argmax(x)], "argmax", [3, 1, 3]),
    "sort": (jnp.sort, "sort", [3, 1, 3]),
    "top_k": (lambda x: lax.top_k(x, 2)[0], "top_k", [3, 1, 1]),
    "floor": (jnp.floor, "floor", [0.5, 1, 1.5]),
    "round": (jnp.round, "round", [0.5, 1, 1.2]),
    "clamp": (lambda x: lax.clamp(0.0, x, 2.0), "clamp", [1, 2, 3]),
    "cummax": (lax.cummax, "cummax", [1, 1, 3]),
    "max_pool": (windows, "reduce_window_max", [1, 1, 3]),
    "rem": (remainder, "rem", [1, 2, 3]),
}


@pytest.mark.parametrize("name", TIES)
def test_ties_are_found_and_only_there(name):
    f, primitive, point = TIES[name]
    point = jnp.asarray(point, "float32")
    expected = [primitive] if primitive else []
    assert [site.primitive for site in signature(f, point).tied] == expected
    near = point + jnp.array([0.01, 0.02, 0.03])
    assert signature(f, near).tied == []


def test_sites_near_reports_crossed_kinks_and_broken_ties():
    def f(x):
        return jnp.maximum(x[0], 0) + abs(x[1]) + jnp.maximum(x[2], x[3])

    x = jnp.array([1.0, 0.0, 2.0, 2.0])
    names = {0: [], 1: ["abs"], 2: ["max"], 3: ["max"]}
    for axis, expected in names.items():
        step = 0.1 * jnp.eye(4)[axis]
        assert [s.primitive for s in sites_near(f, [x], [x + step], [x - step])] == expected
    both = jnp.array([0.0, 0.0, 0.1, 0.1])  # the tie of equal operands that move together
    assert sites_near(f, [x], [x + both], [x - both]) == []
    across = jnp.array([3.0, 0.0, 0.0, 0.0])  # crosses 0, does not lie on it
    function = signature_function(f, x)
    assert len(sites_near(function, [x], [x + across], [x - across])) == 1


def test_a_touched_boundary_is_a_tie_that_breaks():
    def f(x):
        return jnp.maximum(x * x, 0).sum()

    x, h = jnp.zeros(1), jnp.full(1, 0.1)
    assert [s.primitive for s in sites_near(f, [x], [x + h], [x - h])] == ["max"]


@jax.custom_jvp
def custom_jvp(x):
    return abs(x)  # here: custom_jvp


custom_jvp.defjvp(lambda p, t: (custom_jvp(*p), t[0]))


@jax.custom_vjp
def custom_vjp(x):
    return jnp.maximum(x, 0)  # here: custom_vjp


custom_vjp.defvjp(lambda x: (custom_vjp(x), x), lambda x, g: (g,))


@jax.custom_batching.custom_vmap
def custom_vmap(x):
    return jnp.minimum(x, 2)  # here: custom_vmap


custom_vmap.def_vmap(lambda size, batched, x: (jnp.minimum(x, 2), batched[0]))


@jax.jit
def jitted(x):
    return jax.jit(lambda x: jnp.where(x > 1, x, 1))(x)  # here: jitted


@jax.checkpoint
def rematerialized(x):
    return jnp.clip(x, -1)  # here: rematerialized


def scanned(x):
    def step(carry, row):
        return jax.nn.relu(carry - row), carry  # here: scanned

    return lax.scan(step, x, jnp.ones((3, 3), x.dtype))[0]


def mapped(x):
    return lax.map(lambda row: abs(row), x)  # here: mapped


def conditional(x):
    return lax.cond(
        x[0] > 0,  # here: predicate
        lambda x: abs(x[1]),  # here: branch
        lambda x: jnp.maximum(x[2], 0),  # here: other
        x,
    )


def looping(x):
    return lax.while_loop(
        lambda x: x[0] < 3,  # here: test
        lambda x: jnp.maximum(x, 0) + 1,  # here: body
        x,
    )


def counted(x):
    return lax.fori_loop(0, 3, lambda i, x: abs(x) - 1, x)  # here: counted


def batched(x):
    return jax.vmap(lambda x: jnp.maximum(x, 0))(x)  # here: batched


def differentiated(x):
    return jax.grad(lambda x: (x * abs(x)).sum())(x)  # here: differentiated


def helper_of_jax(x):
    jnp.clip(x, 0)  # JAX keeps the program of clip with this line
    return jnp.clip(x, 0)  # here: helper_of_jax


NESTED = {
    custom_jvp: [("abs", "custom_jvp")],
    custom_vjp: [("max", "custom_vjp")],
    custom_vmap: [("min", "custom_vmap")],
    jitted: [("gt", "jitted"), ("select_n", "jitted")],
    rematerialized: [("max", "rematerialized")],
    scanned: [("max", "scanned")],
    mapped: [("abs", "mapped")],
    conditional: [("gt", "predicate"), ("cond", "cond"), ("max", "other"), ("abs", "branch")],
    looping: [("lt", "test"), ("max", "body")],
    counted: [("abs", "counted")],
    batched: [("max", "batched")],
    helper_of_jax: [("max", "helper_of_jax")],
}


@pytest.mark.parametrize("f", NESTED, ids=lambda f: getattr(f, "__name__", "f"))
@pytest.mark.parametrize("wrapped", [False, True], ids=["plain", "jit"])
def test_sites_point_at_the_line_of_the_user(f, wrapped):
    found = signature_function(jax.jit(f) if wrapped else f, jnp.array([0.5, -0.5, 1.5]))
    assert not found.unread
    expected = [here(*site) for site in NESTED[f] if site[0] != "cond"]
    assert [site for site in found.sites if site.primitive != "cond"] == expected
    assert all(site.file == __file__ for site in found.sites)


@pytest.mark.parametrize(
    ("f", "near", "far", "changed"),
    [
        (scanned, [9, 9, 9], [2.5, 9, 9], ["max"]),
        (counted, [9, 9, 9], [1.5, 9, 9], ["abs"]),
        (looping, [2.5, 1, 1], [2.5, -1, 1], ["max"]),
        (looping, [2.5, 1, 1], [3.5, 1, 1], ["lt", "max"]),
        (conditional, [1, 1, 1], [1, -1, 1], ["abs"]),
        (conditional, [1, 1, 1], [1, 1, -1], []),  # the branch not taken
        (conditional, [1, 1, 1], [-1, 1, 1], ["gt", "cond", "max", "abs"]),
        (differentiated, [1, 1, 1], [1, 1, -1], ["abs", "ge"]),
    ],
)
def test_winners_inside_control_flow(f, near, far, changed):
    near, far = jnp.asarray(near, "float32"), jnp.asarray(far, "float32")
    function = signature_function(f, near)
    got = [site.primitive for site in changed_sites(function.at(near), function.at(far))]
    assert sorted(got) == sorted(changed)
    batch = jnp.stack([near, far])
    each = [function.codes(near), function.codes(far)]
    np.testing.assert_array_equal(jax.vmap(function.codes)(batch), each)
    assert changed_sites(function.at(near), function.at(near * 1.001)) == []


def test_the_order_of_the_steps_of_a_loop_counts():
    def f(x, rows):
        return lax.scan(lambda c, row: (c + jnp.maximum(row, 0), None), x, rows)[0]

    function = signature_function(f, jnp.array(0.0), jnp.array([1.0, -1.0]))
    one = function.at(jnp.array(0.0), jnp.array([1.0, -1.0]))
    other = function.at(jnp.array(0.0), jnp.array([-1.0, 1.0]))
    assert len(changed_sites(one, other)) == 1


def net(params, x):
    for w in params:
        x = jax.nn.relu(x @ w)  # here: relu
    return -jax.nn.log_softmax(x)[:, 0].mean()


def random_net(width=16):
    rng = np.random.default_rng(0)
    params = [jnp.asarray(rng.normal(size=(width, width)), "float32") for _ in range(3)]
    return params, jnp.asarray(rng.normal(size=(8, width)), "float32")


def test_relu_net_has_a_site_a_layer_and_none_for_the_shift_of_the_softmax():
    params, x = random_net()
    found = signature(net, params, x)
    assert found.sites == (here("max", "relu"),) * 3
    assert found.tied == []
    zeros = jax.tree.map(jnp.zeros_like, params)
    assert signature(net, zeros, x).tied == [here("max", "relu")]


def test_equal_signatures_agree_with_the_masks_of_a_relu_net():
    params, x = random_net()
    function = signature_function(net, params, x)

    def masks(params, x):
        for w in params:
            x = x @ w
            yield x > 0
            x = jax.nn.relu(x)

    near = jax.jit(lambda params: [*masks(params, x)])
    reference, codes = near(params), function.codes(params, x)
    rng = np.random.default_rng(1)
    outcomes = set()
    for step in (1e-6, 1e-4, 1e-3, 1e-2, 1e-1):
        for _ in range(4):
            moved = [w + np.float32(step) * rng.normal(size=w.shape).astype("f4") for w in params]
            same = [bool((a == b).all()) for a, b in zip(reference, near(moved), strict=True)]
            assert ((codes == function.codes(moved, x)) == np.array(same)).all()
            outcomes.add(all(same))
    assert outcomes == {True, False}


@pytest.mark.parametrize(
    "f",
    [
        jax.nn.softplus,
        jax.nn.log_softmax,
        jax.nn.logsumexp,
        lambda x: jnp.logaddexp(x, 2 * x),
        jnp.sinc,
        lambda x: jnp.where(jnp.arange(3) > 1, x, 0),
        lambda x: jnp.where(jax.random.bernoulli(jax.random.key(0), 0.5, (3,)), x, 0),
        lambda x: x + jnp.maximum(jnp.arange(3.0), 1),
        lambda x: (x, jnp.argmax(x), x > 0)[0],
        lambda x: (x.sum(), jnp.argmax(x), x > 0),
        lambda x: jnp.where(jnp.isnan(x), 0, x),
        lambda x: jax.jit(lambda a, b: a)(x, jnp.sin(x)),
    ],
)
def test_smooth_functions_have_no_site_that_changes(f):
    function = signature_function(f, jnp.zeros(3))
    assert not function.unread
    assert function.at(jnp.zeros(3)).tied == []
    near, far = function.at(jnp.array([1.0, 2.0, 3.0])), function.at(jnp.array([3.0, -2.0, 1.0]))
    assert changed_sites(near, far) == []


def test_any_pytree_of_arguments():
    def f(params, key, labels, mode, nothing, scale):
        assert (mode, nothing) == ("train", None)
        keep = jax.random.bernoulli(key, 0.5, params["w"].shape)
        hidden = jnp.where(keep, jax.nn.relu(params["w"] * scale), 0)
        return hidden[labels].sum() / params["n"], {"aux": labels}

    args = (
        {"w": jnp.array([1.0, -1.0]), "n": 2},
        jax.random.key(0),
        np.array([0, 1]),
        "train",
        None,
        0.5,
    )
    function = signature_function(f, *args)
    assert [site.primitive for site in function.sites] == ["max"]
    other = ({"w": jnp.array([1.0, 1.0]), "n": 2}, *args[1:])
    assert len(sites_near(function, args, args, other)) == 1
    with pytest.raises(ConfigurationError, match="expected arguments of the structure"):
        function.codes(*args[:2])


def test_signatures_of_two_programs_are_not_compared():
    one, other = signature(abs, jnp.ones(2)), signature(jnp.sort, jnp.ones(2))
    with pytest.raises(ConfigurationError, match="two signatures of one program"):
        changed_sites(one, other)


def test_mutable_arrays_and_prints(capfd):
    def f(x):
        ref = jax.new_ref(jnp.zeros(3))
        ref[...] = abs(x)
        jax.debug.print("{}", x)
        return jnp.maximum(ref[...], 1).sum()

    assert primitives(f, jnp.ones(3)) == ["abs", "max"]
    signature(f, jnp.ones(3))
    assert capfd.readouterr().out == ""


def relu_kernel(x_ref, y_ref):
    y_ref[...] = jnp.maximum(x_ref[...], 0.0)


def kernel(x):
    return pl.pallas_call(
        relu_kernel, out_shape=jax.ShapeDtypeStruct(x.shape, x.dtype), interpret=True
    )(x)


def test_a_pallas_kernel_is_opaque_and_the_rest_is_read():
    found = signature(lambda x: abs(kernel(x)).sum(), jnp.array([1.0, -1.0]))
    assert found.opaque
    assert [site.primitive for site in found.unread] == ["pallas_call"]
    assert found.unread[0].file == __file__
    assert [site.primitive for site in found.sites] == ["abs"]


@pytest.mark.parametrize(
    "f",
    [
        lambda x: jnp.array(float(x[0])),
        lambda x: 1 / 0,
        lambda x: jax.pure_callback(np.sin, x, x),
    ],
)
def test_what_cannot_be_read_is_opaque_without_raising(f):
    found = signature(f, jnp.ones(3))
    assert found.opaque
    assert found.sites == ()
    assert found.codes.shape == (0,)


def test_an_unknown_primitive_is_opaque_and_still_evaluated(monkeypatch):
    from jaxnet.gradcheck.kinks import branch_rules

    def fail(*_):
        raise KeyError("a parameter renamed in a later JAX")

    monkeypatch.setitem(branch_rules.RULES, "max", fail)
    found = signature(lambda x: abs(jnp.maximum(x, 0)), jnp.ones(3))
    assert [site.primitive for site in found.unread] == ["max"]
    assert [site.primitive for site in found.sites] == ["abs"]


def test_a_where_is_named_only_if_its_comparison_stands_elsewhere():
    def f(x):
        positive = x > 0  # here: comparison
        one = jnp.where(positive, x, 0)  # here: choice
        return one + jnp.where(x > 1, x, 1)  # here: together

    x, h = jnp.array([0.0, 1.0]), jnp.array([0.1, 0.1])
    assert sites_near(f, [x], [x + h], [x - h]) == [
        here("gt", "comparison"),
        here("select_n", "choice"),
        here("gt", "together"),
    ]


def test_nothing_to_choose():
    assert signature(jnp.sin, jnp.ones(3)).sites == ()
    assert not signature(jnp.sin, jnp.ones(3)).opaque
    assert primitives(jnp.maximum, jnp.ones((0, 2)), jnp.ones((0, 2))) == ["max"]
    assert signature(jnp.maximum, jnp.ones((0, 2)), jnp.ones((0, 2))).tied == []


def test_the_cost_is_a_few_times_that_of_the_function():
    params, x = random_net(64)
    codes = signature_function(net, params, x).codes

    def operations(f):
        cost = jax.jit(f).lower(params, x).compile().cost_analysis()
        return cost["flops"]

    assert operations(codes) < 2 * operations(net)
