"""Spaces expand to known lists, draw what they say they draw, and survive being written down."""

import itertools
import json
import math
import tomllib

import hypothesis
import hypothesis.strategies as st
import numpy as np
import optax
import pytest

from jaxnet.errors import ConfigurationError
from jaxnet.sweeps import (
    choice,
    grid,
    integers,
    log_integers,
    log_uniform,
    normal,
    random_draws,
    uniform,
)
from jaxnet.sweeps.space.space import DISTRIBUTIONS, SPACES, Grid, Listed, space_from_dict

# Grids


def test_the_last_axis_varies_fastest():
    space = grid(learning_rate=[0.1, 0.01], hidden=[[80], [160, 80]], l2=[0, 1, 2])
    expected = []
    for rate in (0.1, 0.01):
        for hidden in ([80], [160, 80]):
            for l2 in (0, 1, 2):
                expected.append({"learning_rate": rate, "hidden": hidden, "l2": l2})
    assert space.settings(seed=0) == expected
    assert space.settings(seed=7) == expected


axes_of_grids = st.dictionaries(
    st.sampled_from(["l2", "momentum", "batch_size", "norm"]),
    st.lists(st.integers(0, 9), min_size=1, max_size=4),
    min_size=1,
)


@hypothesis.given(axes_of_grids)
def test_a_grid_is_the_product_of_its_axes(axes):
    settings = grid(**axes).settings(0)
    assert len(settings) == math.prod(map(len, axes.values()))
    assert [tuple(s.values()) for s in settings] == list(itertools.product(*axes.values()))
    assert all(list(s) == list(axes) for s in settings)


@pytest.mark.parametrize(
    ("given", "values"),
    [
        (0.5, [0.5]),
        ("adam", ["adam"]),
        (None, [None]),
        ((1, 2), [1, 2]),
        (range(2), [0, 1]),
        (np.array([0.5, 1.0]), [0.5, 1.0]),
        ([[80], [160, 80]], [[80], [160, 80]]),
    ],
    ids=repr,
)
def test_one_value_is_a_constant_and_a_sequence_an_axis(given, values):
    assert grid(axis=given).settings(0) == [{"axis": value} for value in values]


def test_an_optax_optimizer_is_one_value_though_it_is_a_tuple():
    ready = optax.sgd(0.1)
    assert isinstance(ready, tuple)
    assert grid(optimizer=ready).axes["optimizer"] == [ready]
    assert len(grid(optimizer=[ready, "adam"]).settings(0)) == 2


def test_numbers_of_numpy_become_plain():
    assert type(grid(l2=np.array([0.5])).settings(0)[0]["l2"]) is float


@pytest.mark.parametrize("empty", [[], (), np.array([]), range(0)], ids=repr)
def test_an_axis_without_values_is_named(empty):
    with pytest.raises(ConfigurationError, match="the grid is empty: axis l2 has no values"):
        grid(learning_rate=[1], l2=empty)


def test_a_grid_without_axes():
    with pytest.raises(ConfigurationError, match="the grid is empty: give it an axis"):
        grid()


def test_a_caller_cannot_change_a_space_through_what_it_returns():
    space = grid(l2=[0, 1])
    space.settings(0)[0]["l2"] = 99
    assert space.settings(0)[0] == {"l2": 0}
    listed = Listed([{"l2": 0}])
    listed.settings(0)[0]["l2"] = 99
    assert listed.settings(0) == [{"l2": 0}]


# Random draws


def a_random_space(count):
    return random_draws(
        count,
        learning_rate=log_uniform(1e-4, 1e-1),
        l2=uniform(0, 2),
        batch_size=integers(10, 20),
        hidden=choice([80], [160, 80]),
        norm="batch",
    )


def test_draws_are_those_of_the_seed():
    assert a_random_space(20).settings(3) == a_random_space(20).settings(3)
    assert a_random_space(20).settings(3) != a_random_space(20).settings(4)


@hypothesis.given(st.integers(1, 30), st.integers(0, 30), st.integers(0, 2**64))
def test_a_larger_count_extends_the_list(count, more, seed):
    short, long = a_random_space(count).settings(seed), a_random_space(count + more).settings(seed)
    assert len(short) == count
    assert long[:count] == short


def test_what_is_no_distribution_is_a_constant():
    assert {s["norm"] for s in a_random_space(10).settings(0)} == {"batch"}
    lists = random_draws(3, hidden=[160, 80], l2=uniform(0, 1)).settings(0)
    assert [s["hidden"] for s in lists] == [[160, 80]] * 3


DRAWS = 4000


def draws(distribution, count=DRAWS, seed=5):
    return [s["x"] for s in random_draws(count, x=distribution).settings(seed)]


# A share p of n independent draws has deviation √(p(1−p)/n) ≤ 0.0079; 5 of them is 0.04. The seed
# is fixed, so the bound is not about flaking: it is about which faults pass.
SHARE = 0.04


def shares_below(values, limits):
    return [np.mean(np.asarray(values) < limit) for limit in limits]


def test_uniform_is_flat_between_its_ends():
    values = draws(uniform(-1, 3))
    assert all(type(v) is float and -1 <= v < 3 for v in values)
    np.testing.assert_allclose(shares_below(values, [0, 1, 2]), [0.25, 0.5, 0.75], atol=SHARE)


def test_the_logarithm_of_log_uniform_is_flat():
    values = draws(log_uniform(1e-4, 1e-0))
    assert all(type(v) is float and 1e-4 <= v < 1 for v in values)
    shares = shares_below(values, [1e-3, 1e-2, 1e-1])
    np.testing.assert_allclose(shares, [0.25, 0.5, 0.75], atol=SHARE)


def test_normal_has_its_mean_and_deviation():
    values = draws(normal(3, 2))
    assert all(type(v) is float for v in values)
    # Φ(−1), Φ(0), Φ(1)
    np.testing.assert_allclose(shares_below(values, [1, 3, 5]), [0.1587, 0.5, 0.8413], atol=SHARE)


def test_integers_include_both_ends_equally():
    values = draws(integers(3, 6))
    assert all(type(v) is int for v in values)
    shares = {v: values.count(v) / DRAWS for v in set(values)}
    assert shares == pytest.approx(dict.fromkeys((3, 4, 5, 6), 0.25), abs=SHARE)


def test_log_integers_include_both_ends_with_probability_about_one_over_the_value():
    values = draws(log_integers(1, 7))
    assert all(type(v) is int for v in values)
    # Whole part of a log-uniform draw on [1, 8): log2(1 + 1/v) / 3.
    expected = {v: math.log2(1 + 1 / v) / 3 for v in range(1, 8)}
    shares = {v: values.count(v) / DRAWS for v in set(values)}
    assert shares == pytest.approx(expected, abs=SHARE)


def test_choice_takes_each_as_often():
    values = draws(choice("sgd", "adam", [80]))
    for value in ("sgd", "adam", [80]):
        assert values.count(value) / DRAWS == pytest.approx(1 / 3, abs=SHARE)


@pytest.mark.parametrize("make", [uniform, log_uniform, integers, log_integers])
def test_equal_ends_are_one_value(make):
    # exp(log(7)) is 7 up to its last bits.
    assert all(v == pytest.approx(7, rel=1e-14) for v in draws(make(7, 7), 20))


def test_axes_are_independent():
    both = random_draws(DRAWS, x=uniform(0, 1), y=uniform(0, 1)).settings(0)
    x, y = (np.array([s[name] for s in both]) for name in "xy")
    assert abs(np.corrcoef(x, y)[0, 1]) < 5 / math.sqrt(DRAWS)


@pytest.mark.parametrize("make", [log_uniform, log_integers])
@pytest.mark.parametrize("low", [0, -1])
def test_a_logarithm_needs_positive_ends(make, low):
    with pytest.raises(ConfigurationError, match=f"{make.__name__}: both ends must be positive"):
        make(low, 2)


@pytest.mark.parametrize("make", [uniform, log_uniform, integers, log_integers])
def test_ends_in_the_wrong_order(make):
    text = f"{make.__name__}: the low end 3 is above the high end 2"
    with pytest.raises(ConfigurationError, match=text):
        make(3, 2)


def test_a_negative_deviation():
    with pytest.raises(ConfigurationError, match="normal: expected a deviation ≥ 0, got -1"):
        normal(0, -1)


def from_toml(text):
    return space_from_dict(tomllib.loads(text))


@pytest.mark.parametrize("kind", ["uniform", "log_uniform", "normal"])
@pytest.mark.parametrize("ends", ["[1.0, inf]", "[1.0, nan]", "[nan, 1.0]"])
def test_infinite_ends_are_refused_before_they_are_drawn_from(as_a_user, kind, ends):
    with pytest.raises(ConfigurationError, match=f"{kind}.*(finite|number)"):
        from_toml(f"random = {{count = 2, l2 = {{{kind} = {ends}}}}}")


@pytest.mark.parametrize("kind", ["integers", "log_integers"])
def test_whole_numbers_are_asked_for(as_a_user, kind):
    with pytest.raises(ConfigurationError, match=f"{kind}: low: expected a whole number, got 1.5"):
        from_toml(f"random = {{count = 2, batch_size = {{{kind} = [1.5, 3]}}}}")


@pytest.mark.parametrize("kind", [k for k in DISTRIBUTIONS if k != "choice"])
@pytest.mark.parametrize("arguments", ["[1]", "[1, 2, 3]", "[]", '["1", "2"]', "[true, 2]"])
def test_two_numbers_are_asked_for(as_a_user, kind, arguments):
    with pytest.raises(
        ConfigurationError, match=rf"{kind}: (expected two|\w+: expected a( whole)?) number"
    ):
        from_toml(f"random = {{count = 2, batch_size = {{{kind} = {arguments}}}}}")


def test_a_choice_of_nothing():
    with pytest.raises(ConfigurationError, match="choice needs at least one value"):
        choice()


@pytest.mark.parametrize("count", ["0", "-3", "2.5", "true", '"3"'])
def test_a_random_space_without_draws(as_a_user, count):
    with pytest.raises(ConfigurationError, match="count: expected a whole number"):
        from_toml(f"random = {{count = {count}, l2 = {{uniform = [0, 1]}}}}")


def test_a_random_space_without_axes():
    with pytest.raises(ConfigurationError, match="the random space has no axes"):
        from_toml("random = {count = 3}")


@pytest.mark.usefixtures("as_a_user")
@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", r"expected one of \[grid\], \[random\] or \[\[configuration\]\], got none"),
        ("[grid]\nl2 = 0\n[random]\ncount = 3", "expected one of .* got .*grid.*random"),
        ("grid = [1]", r"write \[grid\] as a table of axes, got \[1\]"),
        ("random = 3", r"write \[random\] as a table of axes, got 3"),
        ("[grid]", "the grid is empty: give it an axis"),
        ("[grid]\nl2 = []", "axis l2 has no values"),
        ("configuration = []", "the list of configurations is empty"),
        ("configuration = 3", r"write configurations as tables: \[\[configuration\]\]"),
        ("configuration = [3]", r"write configurations as tables: \[\[configuration\]\]"),
        ("[configuration]\nl2 = 0", r"write configurations as tables: \[\[configuration\]\]"),
        ("[random]\nl2 = {uniform = [0, 1]}", r"\[random\] needs a count, such as count = 100"),
        (
            "random = {count = 3, l2 = {unifrom = [0, 1]}}",
            "unknown distribution for l2 'unifrom': did you mean 'uniform'",
        ),
        (
            "random = {count = 3, l2 = [0, 1]}",
            r"random axis l2: to choose among values write \{choice = \[0, 1\]\}",
        ),
        (
            "random = {count = 3, l2 = {uniform = [0, 1], normal = [0, 1]}}",
            "random axis l2: expected one distribution",
        ),
        ("random = {count = 3, l2 = {}}", "random axis l2: expected one distribution"),
        ("random = {count = 3, l2 = {uniform = 1}}", r"random axis l2: expected uniform = \[...\]"),
        ("random = {count = 3, l2 = {choice = []}}", "choice needs at least one value"),
    ],
)
def test_texts_that_are_no_space(text, error):
    with pytest.raises(ConfigurationError, match=error):
        from_toml(text)


# Written down and read again


def toml(value):
    """A TOML writer of our own: tables inline, which is all that spaces need."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k} = {toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value)  # strings, numbers, booleans: as in JSON


numbers = st.floats(1e-300, 1e300)
pairs = st.tuples(numbers, numbers).map(sorted)
whole_pairs = st.tuples(st.integers(1, 10**6), st.integers(1, 10**6)).map(sorted)
# Described, not made: what a strategy calls must not use `random`, as beartype does.
distributions = st.one_of(
    st.tuples(st.sampled_from([uniform, log_uniform, normal]), pairs),
    st.tuples(st.sampled_from([integers, log_integers]), whole_pairs),
    st.tuples(st.just(choice), st.lists(st.sampled_from(["a", 1, 0.5]), min_size=1)),
)
names = st.sampled_from(["learning_rate", "l2", "eps", "batch_size"])


def assert_survives_writing(space, seed):
    written = space.to_dict()
    assert len(set(written) & set(SPACES)) == len(written) == 1
    for again in (written, json.loads(json.dumps(written))):
        assert space_from_dict(again).settings(seed) == space.settings(seed)
        assert space_from_dict(again).to_dict() == written
    text = "\n".join(f"{key} = {toml(value)}" for key, value in written.items())
    assert from_toml(text).settings(seed) == space.settings(seed)


@hypothesis.given(axes_of_grids)
def test_a_grid_written_down_is_the_same_grid(axes):
    assert_survives_writing(grid(**axes), 0)


@hypothesis.given(
    st.integers(1, 5),
    st.dictionaries(names, distributions, min_size=1),
    st.integers(0, 2**32),
)
@hypothesis.settings(deadline=None)
def test_a_random_space_written_down_draws_the_same(count, described, seed):
    axes = {name: make(*arguments) for name, (make, arguments) in described.items()}
    assert_survives_writing(random_draws(count, **axes, norm="batch", hidden=[8, 4]), seed)


@hypothesis.given(st.lists(st.dictionaries(names, numbers), min_size=1))
def test_a_list_written_down_is_the_same_list(configurations):
    assert_survives_writing(Listed(configurations), 0)


def test_a_grid_read_from_a_file_has_the_order_of_the_file():
    space = from_toml("[grid]\nl2 = [1, 2]\nbatch_size = 4\nhidden = [[8], []]")
    assert isinstance(space, Grid)
    assert [tuple(s.values()) for s in space.settings(0)] == [
        (1, 4, [8]),
        (1, 4, []),
        (2, 4, [8]),
        (2, 4, []),
    ]
