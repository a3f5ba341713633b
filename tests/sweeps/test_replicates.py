"""What several seeds say together, against scipy.stats, the statistics module and plain sums."""

import csv
import dataclasses
import json
import math
import statistics

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, strategies as st

from jaxnet.errors import ConfigurationError
from jaxnet.intervals import mean_interval, proportion_interval, welch_interval
from jaxnet.sweeps.results.record import NO_HISTORY, Outcome
from jaxnet.sweeps.results.replicates import (
    difference_interval,
    noise_note,
    rank_replicates,
    replicates,
    within_noise,
    write_replicates_csv,
)
from jaxnet.sweeps.results.rows import Row, rank
from jaxnet.training.settings import configure

NAN = math.nan
DIVERGED = None
PAST = NO_HISTORY


def a_row(id, accuracy, seed=0, loss=0.5, **settings):
    ok = accuracy is not DIVERGED
    outcome = Outcome(9, loss, 0.6, accuracy if ok else NAN, "ok" if ok else "diverged@4", PAST)
    return Row(id, {"hidden": (50,), **settings, "seed": seed}, outcome)


def a_sweep(**accuracies):
    """Rows of settings by name, each with the accuracies of seeds 0, 1, ... (... : not run)."""
    rows = []
    for name, values in accuracies.items():
        for seed, accuracy in enumerate(values):
            if accuracy is not ...:
                rows.append(a_row(len(rows), accuracy, seed, name=name))
    return rows


def names(groups):
    return [group.settings["name"] for group in groups]


def group_of(*accuracies, name="a"):
    (group,) = replicates(a_sweep(**{name: accuracies}))
    return group


# --- intervals -----------------------------------------------------------------------------------

ACCURACIES = st.lists(st.integers(0, 1000).map(lambda k: k / 1000), min_size=2, max_size=8)


@given(ACCURACIES)
def test_mean_interval_is_that_of_scipy(values):
    if len(set(values)) == 1:
        return  # scipy warns of constants
    expected = scipy.stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert mean_interval(values) == pytest.approx((expected.low, expected.high), abs=1e-9)


@given(ACCURACIES, ACCURACIES)
def test_welch_interval_is_that_of_scipy(a, b):
    if len(set(a)) == 1 or len(set(b)) == 1:
        return  # scipy warns of constants
    expected = scipy.stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    assert welch_interval(a, b) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert welch_interval(b, a) == pytest.approx((-expected.high, -expected.low), abs=1e-9)


def test_intervals_of_constants_have_no_width_and_of_too_few_are_unknown():
    assert mean_interval([0.5, 0.5, 0.5]) == (0.5, 0.5)
    assert welch_interval([0.5, 0.5], [0.25, 0.25]) == (0.25, 0.25)
    for values in ([], [0.5]):
        assert np.isnan(mean_interval(values)).all()
        assert np.isnan(welch_interval(values, [0.1, 0.2])).all()
        assert np.isnan(welch_interval([0.1, 0.2], values)).all()


def test_proportion_interval_by_hand_and_by_simulation():
    # √(0.52·0.48/1000 + 0.5·0.5/1000) = 0.02235173
    low, high = proportion_interval(0.52, 0.50, 1000)
    assert (low, high) == pytest.approx((0.02 - 0.0438086, 0.02 + 0.0438086), abs=1e-6)
    rng = np.random.default_rng(0)
    draws = (rng.binomial(1000, 0.52, 20_000) - rng.binomial(1000, 0.5, 20_000)) / 1000
    assert np.mean((draws > low) & (draws < high)) == pytest.approx(0.95, abs=0.01)


# --- groups and their statistics -----------------------------------------------------------------


def test_statistics_are_of_the_rows_that_did_not_diverge():
    group = group_of(0.5, DIVERGED, 0.54, 0.51, DIVERGED)
    finite = [0.5, 0.54, 0.51]
    assert (group.count, group.diverged, len(group.rows)) == (3, 2, 5)
    assert group.accuracies == {0: 0.5, 2: 0.54, 3: 0.51}
    assert group.mean == pytest.approx(statistics.mean(finite))
    assert group.std == pytest.approx(statistics.stdev(finite))
    assert group.median == statistics.median(finite)
    error = statistics.stdev(finite) / math.sqrt(3)
    expected = scipy.stats.t.interval(0.95, 2, statistics.mean(finite), error)
    assert group.interval == pytest.approx(expected)
    assert group.score("mean") == pytest.approx(sum(finite) / 5)
    assert group.score("median") == 0.5  # of 0, 0, 0.5, 0.51, 0.54


def test_one_seed_has_a_mean_but_no_spread():
    group = group_of(0.5)
    assert (group.mean, group.median, group.count) == (0.5, 0.5, 1)
    assert np.isnan([group.std, *group.interval]).all()


def test_all_diverged_has_no_statistics():
    group = group_of(DIVERGED, DIVERGED)
    assert (group.count, group.diverged) == (0, 2)
    assert np.isnan([group.mean, group.std, group.median, *group.interval]).all()


def test_groups_differ_in_more_than_the_seed():
    rows = [
        a_row(5, 0.2, seed=1, rate=0.1),
        a_row(3, 0.3, seed=0, rate=0.2),
        a_row(1, 0.1, seed=0, rate=0.1),
        a_row(9, 0.4, seed=1, rate=0.2),
    ]
    groups = replicates(rows)
    assert [[row.id for row in group.rows] for group in groups] == [[1, 5], [3, 9]]
    assert [group.settings for group in groups] == [
        {"hidden": (50,), "rate": 0.1},
        {"hidden": (50,), "rate": 0.2},
    ]
    assert replicates([]) == []


def test_rows_read_from_a_store_group_with_those_of_the_run():
    settings = configure(hidden=(80, 40), optimizer="adam", seed=1).to_dict()
    fresh = Row(0, settings, a_row(0, 0.5).outcome)
    stored = Row(1, json.loads(json.dumps({**settings, "seed": 2})), fresh.outcome)
    (group,) = replicates([fresh, stored])
    assert group.count == 2


def test_a_repeated_run_is_no_replicate():
    once = a_sweep(a=[0.5, 0.54])
    again = [dataclasses.replace(row, id=row.id + 2) for row in once]
    assert replicates(once + again) == replicates(once)


@given(st.permutations(a_sweep(a=[0.5, 0.6, DIVERGED], b=[0.4, ..., 0.7], c=[DIVERGED])))
def test_the_order_of_rows_changes_nothing(rows):
    ordered = sorted(rows, key=lambda row: row.id)
    assert replicates(rows) == replicates(ordered)
    assert noise_note(replicates(rows)) == noise_note(replicates(ordered))


# --- ranking -------------------------------------------------------------------------------------


def test_a_diverged_seed_counts_as_no_accuracy():
    rows = a_sweep(
        dead=[DIVERGED] * 4,
        useless=[0.1, 0.1, 0.1, 0.1],
        stable=[0.5, 0.5, 0.5, 0.5],
        brittle=[0.6, 0.6, 0.6, DIVERGED],  # 0.45 to expect of a run
        nothing=[0.0, 0.0, 0.0, 0.0],
    )
    by_mean = ["stable", "brittle", "useless", "nothing", "dead"]
    assert names(rank_replicates(replicates(rows))) == by_mean
    by_median = ["brittle", "stable", "useless", "nothing", "dead"]
    assert names(rank_replicates(replicates(rows), by="median")) == by_median
    assert rank_replicates([]) == []


@given(
    st.lists(
        st.tuples(
            st.one_of(st.none(), st.sampled_from([0.0, 0.25, 0.5])), st.sampled_from([0.5, 1, NAN])
        ),
        max_size=8,
    ),
    st.sampled_from(["mean", "median"]),
)
def test_with_one_seed_the_order_is_that_of_the_rows(outcomes, by):
    rows = [a_row(i, a, loss=float(loss), rate=i) for i, (a, loss) in enumerate(outcomes)]
    ranked = rank_replicates(replicates(rows), by)
    assert [group.rows[0].id for group in ranked] == [row.id for row in rank(rows)]


def test_unknown_statistic():
    with pytest.raises(ConfigurationError, match="unknown statistic 'meen': did you mean 'mean'"):
        rank_replicates([], by="meen")


# --- noise ---------------------------------------------------------------------------------------


def test_pairing_by_seed_sees_what_the_spread_over_seeds_hides():
    luck = np.array([0.0, 0.05, -0.05, 0.02, -0.02])  # of a seed, for every setting alike
    better, worse = 0.51 + luck, 0.50 + luck + np.array([1, -1, 1, -1, 0]) / 1000
    paired = [group_of(*better.tolist()), group_of(*worse.tolist())]
    low, high = difference_interval(*paired)
    expected = scipy.stats.ttest_rel(better, worse).confidence_interval(0.95)
    assert (low, high) == pytest.approx((expected.low, expected.high))
    assert low > 0
    other_seeds = group_of(*[...] * 5, *worse.tolist())
    apart = difference_interval(paired[0], other_seeds)
    welch = scipy.stats.ttest_ind(better, worse, equal_var=False).confidence_interval(0.95)
    assert apart == pytest.approx((welch.low, welch.high))
    assert apart[0] < 0


def test_pairs_are_the_seeds_with_which_neither_diverged():
    a = group_of(0.5, 0.6, DIVERGED, 0.7)
    b = group_of(0.4, ..., 0.9, 0.5)
    assert difference_interval(a, b) == mean_interval([0.5 - 0.4, 0.7 - 0.5])
    low, high = difference_interval(a, b)
    assert difference_interval(b, a) == pytest.approx((-high, -low))


def test_one_seed_takes_the_error_of_the_validation_images():
    a, b = group_of(0.52), group_of(0.50)
    assert difference_interval(a, b) is None
    assert difference_interval(a, b, validation=1000) == proportion_interval(0.52, 0.50, 1000)
    assert difference_interval(a, group_of(DIVERGED), validation=1000) is None
    mixed = group_of(0.5, 0.52, 0.48)
    assert difference_interval(a, mixed, validation=100) == proportion_interval(0.52, 0.5, 100)


def test_a_clear_winner_has_no_note():
    groups = replicates(
        a_sweep(winner=[0.60, 0.62, 0.61], other=[0.50, 0.52, 0.52], dead=[DIVERGED] * 3)
    )
    assert within_noise(groups[0], groups[1:]) == []
    assert noise_note(groups) is None


def test_the_note_counts_what_cannot_be_told_from_the_winner():
    groups = replicates(
        a_sweep(
            far=[0.30, 0.33, 0.31],
            close=[0.600, 0.600, 0.617],
            winner=[0.600, 0.620, 0.609],
            dead=[DIVERGED] * 3,
            fewer=[0.59, ..., 0.61],
            brittle=[0.61, DIVERGED, 0.60],
        )
    )
    best, *others = rank_replicates(groups)
    assert names([best]) == ["winner"]
    assert names(within_noise(best, others)) == ["close", "fewer"]
    assert noise_note(groups) == (
        "the winner's margin (0.004) is within noise: 2 of 5 others cannot be told from it; "
        "more seeds or validation images would tell"
    )


def test_a_winner_that_diverged_as_often_is_compared_by_the_rest():
    best, *others = rank_replicates(
        replicates(a_sweep(a=[0.61, DIVERGED, 0.60, 0.62], b=[0.61, 0.61, DIVERGED, 0.60]))
    )
    assert names(within_noise(best, others)) == ["b"]


@pytest.mark.parametrize(
    ("validation", "told"),
    [(100, "2 of 3 others"), (1000, "1 of 3 others"), (100_000, None)],
)
def test_one_seed_and_more_or_fewer_validation_images(validation, told):
    groups = replicates(a_sweep(a=[0.52], b=[0.51], c=[0.45], d=[DIVERGED]))
    note = noise_note(groups, validation=validation)
    assert note is None if told is None else told in note


def test_one_seed_and_nothing_known_of_the_noise():
    groups = replicates(a_sweep(a=[0.52], b=[0.11]))
    assert noise_note(groups) == (
        "the winner's margin (0.41) cannot be judged from one seed: more seeds would show its noise"
    )


@pytest.mark.parametrize("rows", [{}, {"a": [0.5, 0.6]}, {"a": [None], "b": [None, None]}])
def test_without_a_winner_and_another_there_is_no_note(rows):
    assert noise_note(replicates(a_sweep(**rows)), validation=100) is None


@pytest.mark.parametrize(("settings", "most"), [(2, 0.05), (5, 0.05)])
def test_equal_settings_seldom_have_a_clear_winner(settings, most):
    rng, trials, clear = np.random.default_rng(0), 800, 0
    for _ in range(trials):
        drawn = 0.5 + 0.01 * rng.normal(size=(settings, 5))
        groups = [group_of(*map(float, values)) for values in drawn]
        best = max(groups, key=lambda group: group.mean)
        others = [group for group in groups if group is not best]
        clear += not within_noise(best, others)
    assert clear / trials < most + 3 * math.sqrt(most * (1 - most) / trials)
    assert settings > 2 or clear / trials > most - 3 * math.sqrt(most * (1 - most) / trials)


# --- the table -----------------------------------------------------------------------------------


def test_csv_has_one_line_a_setting(tmp_path):
    rows = [
        a_row(0, 0.5, seed=0, rate=0.1, beta1=0.9),
        a_row(1, 0.25, seed=1, rate=0.1, beta1=0.9),
        a_row(2, DIVERGED, seed=0, rate=0.2),
    ]
    path = tmp_path / "replicates.csv"
    write_replicates_csv(rank_replicates(replicates(rows)), path)
    with path.open(newline="", encoding="utf-8") as file:
        first, second = csv.DictReader(file)
    low, high = mean_interval([0.5, 0.25])
    assert first == {
        "hidden": "50",
        "rate": "0.1",
        "beta1": "0.9",
        "seeds": "2",
        "diverged": "0",
        "mean": "0.375",
        "std": repr(statistics.stdev([0.5, 0.25])),
        "ci_low": repr(low),
        "ci_high": repr(high),
        "median": "0.375",
        "best": "0.5",
        "ids": "0 1",
    }
    empty = ("beta1", "mean", "std", "ci_low", "ci_high", "median", "best")
    assert [second[name] for name in empty] == [""] * len(empty)
    assert (second["seeds"], second["diverged"], second["ids"]) == ("1", "1", "2")
