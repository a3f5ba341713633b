"""What a picture says is read back from its artists and compared with numbers computed apart."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle

from jaxnet import plots
from jaxnet.errors import ConfigurationError


@pytest.fixture
def save(tmp_path):
    def write(figure):
        path = tmp_path / "figure.png"
        figure.savefig(path, dpi=120)
        assert path.read_bytes().startswith(b"\x89PNG")
        return figure

    return write


def texts(axes):
    return [text.get_text() for text in axes.texts]


def at(axes, column, row):
    """The texts of one cell of a heat map, main line first."""
    cell = [t for t in axes.texts if round(t.get_position()[0]) == column]
    return [t.get_text() for t in cell if round(t.get_position()[1]) == row]


def legend(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def sweep(seed=0):
    """A 4 x 3 x 3 x 4 grid of 144 configurations with made-up accuracies, some diverged."""
    rng = np.random.default_rng(seed)
    grid = itertools.product(
        [1e-5, 1e-4, 1e-3, 1e-1],
        [0.0, 1e-4, 1e-2],
        [32, 64, 256],
        [(80,), (160,), (160, 80), (320,)],
    )
    learning_rate, l2, batch_size, hidden = zip(*grid, strict=True)
    columns = {"learning_rate": learning_rate, "l2": l2, "batch_size": batch_size, "hidden": hidden}
    rate = np.array(learning_rate)
    diverged = (rate == 1e-1) & ((np.array(batch_size) < 256) | (rng.random(144) < 0.5))
    accuracy = 0.5 - 0.05 * (np.log10(rate) + 3) ** 2 + 0.05 * rng.random(144)
    return columns, np.where(diverged, np.nan, accuracy), diverged


# --- learning curves -----------------------------------------------------------------------------


def test_learning_curves_show_the_numbers(save):
    steps, evaluated = np.arange(10), np.array([0, 5, 9])
    loss = np.linspace(2, 1, 10)
    train, val = np.array([0.1, 0.5, 0.6]), np.array([0.1, 0.4, 0.35])
    figure = save(
        plots.learning_curves(steps, loss, evaluated, train, val, title="run 7", chance=0.1)
    )
    left, right = figure.axes
    np.testing.assert_array_equal(left.lines[0].get_xydata(), np.c_[steps, loss])
    np.testing.assert_array_equal(right.lines[0].get_ydata(), train)
    np.testing.assert_array_equal(right.lines[1].get_ydata(), val)
    assert list(right.lines[2].get_ydata()) == [0.1, 0.1]
    assert legend(right) == ["train", "validation (best 0.400 at step 5)", "chance 0.1"]
    assert (left.get_xlabel(), left.get_ylabel()) == ("step", "loss")
    assert (right.get_xlabel(), right.get_ylabel()) == ("step", "accuracy")
    assert figure.get_suptitle() == "run 7"
    assert left.get_yscale() == "linear"


def test_long_loss_gets_a_trailing_mean(save):
    loss = np.random.default_rng(0).normal(2, 0.1, 500).astype(np.float32)
    steps, none = np.arange(500), np.zeros(0)
    left = save(plots.learning_curves(steps, loss, none, none, none)).axes[0]
    raw, smooth = left.lines
    assert raw.get_linewidth() < smooth.get_linewidth()
    assert legend(left)[1] == "mean of the last 10"
    for i in (0, 5, 250, 499):
        window = loss[max(0, i - 9) : i + 1].astype(float)
        assert smooth.get_ydata()[i] == pytest.approx(window.mean(), rel=1e-12)


def test_diverged_loss_marks_the_last_finite_point(save):
    loss = np.r_[np.linspace(2, 1, 150), [5.0, 1e9], [np.inf], np.full(40, np.nan)]
    evaluated = np.array([0, 100, 192])
    val = np.array([0.1, 0.3, np.nan])
    figure = save(
        plots.learning_curves(
            np.arange(len(loss)), loss, evaluated, val, val, title="lr=1", status="diverged"
        )
    )
    left, right = figure.axes
    np.testing.assert_array_equal(left.lines[-1].get_xydata(), [[151, 1e9]])
    assert left.lines[-1].get_marker() == "X"
    assert legend(left)[-1] == "last finite loss (step 151)"
    assert left.get_yscale() == "log"
    assert legend(right)[1] == "validation (best 0.300 at step 100)"
    assert figure.get_suptitle() == "lr=1: status diverged"


@pytest.mark.parametrize("n", [0, 1, 3])
def test_nothing_finite_still_draws(save, n):
    nan = np.full(n, np.nan)
    figure = save(plots.learning_curves(np.arange(n), nan, np.arange(n), nan, nan))
    assert texts(figure.axes[0]) == ["no finite loss"]
    assert legend(figure.axes[1]) == ["train", "validation"]


# --- weights -------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
def test_each_unit_is_rescaled_to_its_own_range(save, channels):
    h, w, units, columns = 4, 5, 7, 3
    scale = 10.0 ** np.arange(units)
    weights = np.random.default_rng(1).normal(size=(h * w * channels, units)) * scale
    figure = save(
        plots.weight_images(weights.astype(np.float32), (h, w, channels), columns=columns)
    )
    (axes,) = figure.axes
    grid = np.asarray(axes.images[0].get_array()).reshape(3 * 5 - 1, 3 * 6 - 1, channels)
    for unit in range(units):
        image = weights[:, unit].astype(np.float32).astype(float).reshape(h, w, channels)
        expected = (image - image.min()) / (image.max() - image.min())
        row, column = divmod(unit, columns)
        tile = grid[row * 5 : row * 5 + 4, column * 6 : column * 6 + 5]
        np.testing.assert_allclose(tile, expected, rtol=1e-12)
    assert (grid[4] == 1).all()  # the gap between rows
    assert axes.images[0].get_clim() == (0, 1)
    assert figure.get_suptitle() == ""


def test_only_the_largest_units_are_shown(save):
    weights = np.random.default_rng(2).normal(size=(4, 6)) * np.array([1, 9, 2, np.nan, 8, 3])
    figure = save(plots.weight_images(weights, (2, 2, 1), limit=2, columns=5, title="best run"))
    assert figure.get_suptitle() == "best run\n2 of 6 units: largest norm first"
    grid = np.asarray(figure.axes[0].images[0].get_array())
    largest = np.argsort(-np.nan_to_num(np.linalg.norm(weights, axis=0)))[:2]
    assert grid.shape == (2, 5)
    for k, unit in enumerate(largest):
        v = weights[:, unit]
        np.testing.assert_allclose(
            grid[:, 3 * k : 3 * k + 2].ravel(), (v - v.min()) / (v.max() - v.min())
        )


def test_constant_and_broken_units(save):
    weights = np.stack([np.full(4, 3.0), [0, 1, np.nan, 2], [0, 1, np.inf, 2]], axis=1)
    (axes,) = save(plots.weight_images(weights, (2, 2, 1), columns=3)).axes
    assert (np.asarray(axes.images[0].get_array())[:, :2] == 0.5).all()
    assert texts(axes) == ["NaN", "NaN"]


@pytest.mark.parametrize(
    ("shape", "options", "match"),
    [
        ((2, 3, 1), {}, r"2 \* 3 \* 1 = 6 inputs .* got 12; pass the weights of the first layer"),
        ((2, 3, 2), {}, "1 channel .* or 3 .* got 2"),
        ((2, 2, 3), {"columns": 0}, "columns=0"),
        ((2, 2, 3), {"limit": 0}, "limit=0"),
    ],
)
def test_weights_that_do_not_fit(shape, options, match):
    with pytest.raises(ConfigurationError, match=match):
        plots.weight_images(np.zeros((12, 5)), shape, **options)


# --- accuracy over two hyperparameters -----------------------------------------------------------


def test_cells_print_the_best_of_their_configurations(save):
    columns, accuracy, diverged = sweep()
    x, y = columns["learning_rate"], columns["batch_size"]
    figure = save(plots.accuracy_map("lr", x, "batch", y, accuracy, diverged, title="digits"))
    axes, bar = figure.axes
    assert [t.get_text() for t in axes.get_xticklabels()] == ["1e-5", "0.0001", "0.001", "0.1"]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["32", "64", "256"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("lr", "batch")
    assert "best validation accuracy" in bar.get_ylabel()
    for (i, a), (j, b) in itertools.product(
        enumerate([1e-5, 1e-4, 1e-3, 1e-1]), enumerate([32, 64, 256])
    ):
        group = [k for k in range(144) if x[k] == a and y[k] == b]
        bad = diverged[group].sum()
        if bad == len(group):
            assert at(axes, i, j) == ["diverged"]
            continue
        expected = [f"{np.nanmax(accuracy[group]):.3f}"]
        assert at(axes, i, j) == expected + ([f"{bad}/{len(group)} div."] if bad else [])
    hatched = [p for p in axes.patches if isinstance(p, Rectangle) and p.get_hatch()]
    assert {p.get_xy() for p in hatched} == {(2.5, -0.5), (2.5, 0.5)}
    assert any("div." in text for text in texts(axes))


def test_empty_cells_are_blank_and_a_missing_accuracy_is_not_a_divergence(save):
    x, y = ["a", "a", "b"], [1, 2, 2]
    axes = save(plots.accuracy_map("x", x, "y", y, [0.3, np.nan, 0.6], [False, False, True])).axes[
        0
    ]
    assert at(axes, 0, 0) == ["0.300"]
    assert at(axes, 0, 1) == ["none"]
    assert at(axes, 1, 1) == ["diverged"]
    assert at(axes, 1, 0) == []
    drawn = axes.collections[0].get_array()
    assert drawn.mask.ravel().tolist() == [False, True, True, True]


def test_text_contrasts_with_its_cell(save):
    accuracy = np.linspace(0, 1, 11)
    no = np.zeros(11, bool)
    axes = save(plots.accuracy_map("x", np.arange(11), "y", [0] * 11, accuracy, no)).axes[0]

    def luminance(colour):
        c = np.array(to_rgb(colour))
        return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4) @ [
            0.2126,
            0.7152,
            0.0722,
        ]

    faces = axes.collections[0].to_rgba(axes.collections[0].get_array()).reshape(-1, 4)
    for face, text in zip(faces, axes.texts, strict=True):
        low, high = sorted([luminance(face[:3]), luminance(text.get_color())])
        assert (high + 0.05) / (low + 0.05) >= 4.5


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([(160, 80), (80,), (160,)], ["80", "160", "160-80"]),
        ([10, 9, 100], ["9", "10", "100"]),
        (["relu", "elu", "tanh"], ["elu", "relu", "tanh"]),
        (np.array([1e-3, 1e-4, 0.5], np.float32), ["0.0001", "0.001", "0.5"]),
        ([0.123456, 0.123457, 0.2], ["0.123456", "0.123457", "0.2"]),
        ([True, None, ()], ["none", "None", "True"]),
        (np.array([[160, 80], [80, 80], [80, 40]]), ["80-40", "80-80", "160-80"]),
    ],
)
def test_values_are_sorted_and_labelled(save, values, labels):
    figure = save(plots.accuracy_map("x", values, "y", [1, 1, 1], [0.1, 0.2, 0.3], [False] * 3))
    assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == labels


def test_random_search_is_a_scatter(save):
    rng = np.random.default_rng(3)
    rate, dropout = 10 ** rng.uniform(-5, -1, 60), rng.uniform(0, 0.5, 60)
    accuracy, diverged = rng.random(60), rate > 10**-1.7
    figure = save(plots.accuracy_map("rate", rate, "dropout", dropout, accuracy, diverged))
    axes = figure.axes[0]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "linear")
    points, crosses, ring = axes.collections
    np.testing.assert_array_equal(
        np.asarray(points.get_offsets()),
        np.c_[rate, dropout][~diverged][np.argsort(accuracy[~diverged])],
    )
    np.testing.assert_array_equal(points.get_array(), np.sort(accuracy[~diverged]))
    np.testing.assert_array_equal(np.asarray(crosses.get_offsets()), np.c_[rate, dropout][diverged])
    best = np.flatnonzero(~diverged)[accuracy[~diverged].argmax()]
    np.testing.assert_array_equal(np.asarray(ring.get_offsets()), [[rate[best], dropout[best]]])
    assert legend(axes) == ["diverged", f"best {accuracy[best]:.3f}"]


def test_scatter_places_names_evenly_and_zero_on_a_log_axis(save):
    l2 = np.r_[0.0, np.logspace(-5, -1, 19)]
    names = ["elu", "relu"] * 10
    axes = save(plots.accuracy_map("l2", l2, "act", names, l2, [False] * 20)).axes[0]
    assert axes.get_xscale() == "symlog"
    assert [t.get_text() for t in axes.get_yticklabels()] == ["elu", "relu"]


@pytest.mark.parametrize("n", [5, 30])
@pytest.mark.parametrize("bad", [False, True])
def test_no_accuracy_at_all_still_draws(save, n, bad):
    nan, flags = np.full(n, np.nan), np.full(n, bad)
    axes = save(plots.accuracy_map("x", np.arange(n), "y", np.arange(n), nan, flags)).axes[0]
    assert set(texts(axes)) == ({"diverged" if bad else "none"} if n == 5 else set())
    save(plots.accuracy_over_pairs({"x": np.arange(n)}, nan, flags))


def test_columns_must_agree():
    with pytest.raises(ConfigurationError, match="got x: 3, y: 2, accuracy: 3, diverged: 3"):
        plots.accuracy_map("x", [1, 2, 3], "y", [1, 2], [0.1] * 3, [False] * 3)
    with pytest.raises(ConfigurationError, match="got x: 0"):
        plots.accuracy_over_pairs({"x": []}, [], [])


# --- all pairs -----------------------------------------------------------------------------------


def test_the_label_says_what_the_accuracies_are(save):
    columns, accuracy, diverged = sweep()
    two = {name: columns[name] for name in ("l2", "hidden")}
    figure = save(plots.accuracy_over_pairs(two, accuracy, diverged, label="mean over 5 seeds"))
    assert figure.axes[-1].get_ylabel() == "mean over 5 seeds\n(of each cell's configurations)"
    one = plots.accuracy_over_pairs({"x": [1, 2]}, [0.1, 0.2], [False] * 2, label="median")
    assert save(one).axes[0].get_ylabel() == "median"
    single = plots.accuracy_map("x", [1], "y", [1], [0.5], [False], label="mean")
    assert save(single).axes[1].get_ylabel().startswith("mean\n")


def test_every_pair_once_with_one_colour_bar(save):
    columns, accuracy, diverged = sweep()
    fixed = columns | {"optimizer": ["adam"] * 144}
    figure = save(plots.accuracy_over_pairs(fixed, accuracy, diverged, title="digits, 144 runs"))
    *panels, bar = figure.axes
    got = [(p.get_xlabel(), p.get_ylabel()) for p in panels]
    assert got == list(itertools.combinations(columns, 2))
    assert "best validation accuracy" in bar.get_ylabel()
    assert len({p.collections[0].get_clim() for p in panels}) == 1
    for panel in panels:  # the best of the sweep shows in every panel
        assert f"{np.nanmax(accuracy):.3f}" in texts(panel)


def test_one_swept_hyperparameter_is_a_strip(save):
    rate = [0.1, 0.01, 0.1, 0.01, 1.0]
    accuracy, diverged = [0.3, 0.5, np.nan, 0.4, np.nan], [False, False, False, False, True]
    columns = {"rate": rate, "l2": [0.0] * 5}
    (axes,) = save(plots.accuracy_over_pairs(columns, accuracy, diverged)).axes
    runs, best, crosses = axes.lines
    np.testing.assert_array_equal(runs.get_xydata(), np.c_[[1, 0, 1, 0], accuracy[:4]])
    np.testing.assert_array_equal(best.get_ydata(), [0.5, 0.3, np.nan])
    assert crosses.get_xdata() == [2]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("rate", "best validation accuracy")
    assert legend(axes) == ["configuration", "best", "diverged"]
    assert texts(axes) == ["1/1 div."]


def test_nothing_swept_has_no_picture():
    with pytest.raises(ConfigurationError, match=r"more than one distinct value, got rate, l2"):
        plots.accuracy_over_pairs({"rate": [0.1, 0.1], "l2": [0, 0]}, [0.1, 0.2], [False, False])


# --- means over seeds ----------------------------------------------------------------------------


def means_of(axes):
    """Of each error bar: its label, its means (x, y) and the ends of its intervals."""
    for bars in axes.containers:
        line, _, (ends,) = bars
        yield (
            bars.get_label(),
            line.get_xydata(),
            [np.reshape(path, (-1, 2))[:, 1] for path in ends.get_segments()],
        )


def test_means_and_intervals_over_seeds(save):
    rate = [1e-4] * 3 + [1e-3] * 3 + [1e-1] * 2
    accuracy = [0.5, 0.52, 0.54, 0.6, 0.62, np.nan, np.nan, np.nan]
    diverged = [False] * 5 + [True] * 3
    figure = save(plots.replicate_means("rate", rate, accuracy, diverged, title="3 seeds"))
    (axes,) = figure.axes
    ((_, means, ends),) = means_of(axes)
    np.testing.assert_allclose(means, [[1e-4, 0.52], [1e-3, 0.61], [np.nan, np.nan]])
    for got, values in zip(ends[:2], ([0.5, 0.52, 0.54], [0.6, 0.62]), strict=True):
        expected = scipy.stats.ttest_1samp(values, 0).confidence_interval(0.95)
        np.testing.assert_allclose(got, [expected.low, expected.high])
    np.testing.assert_array_equal(axes.lines[0].get_xydata(), np.c_[rate, accuracy][:5])
    assert [text.strip() for text in texts(axes)] == ["1/3", "2/2"]
    crosses = [line for line in axes.lines if line.get_marker() == "x" and len(line.get_xdata())]
    assert [line.get_xdata()[0] for line in crosses] == [1e-3, 1e-1]
    assert legend(axes) == ["one run", "diverged (of its runs)", "mean, 95 % interval"]
    assert axes.get_xscale() == "log"
    assert [t.get_text() for t in axes.get_xticklabels()] == ["0.0001", "0.001", "0.1"]
    assert figure.get_suptitle() == "3 seeds"


def test_one_seed_has_no_interval(save):
    axes = save(plots.replicate_means("l2", [0.0, 0.1], [0.5, 0.4], [False] * 2)).axes[0]
    ((_, means, ends),) = means_of(axes)
    np.testing.assert_array_equal(means, [[0.0, 0.5], [0.1, 0.4]])
    assert not np.isfinite(np.concatenate(ends)).any()
    assert texts(axes) == []
    assert legend(axes) == ["mean, 95 % interval"]


def test_a_second_hyperparameter_is_a_line_each(save):
    x, kind = ["relu", "elu"] * 4, ["adam"] * 4 + ["sgd"] * 4
    accuracy = np.arange(8) / 10
    diverged = np.arange(8) == 7
    figure = save(
        plots.replicate_means("act", x, accuracy, diverged, series=("opt", kind), label="median")
    )
    axes = figure.axes[0]
    (first, adam, _), (second, sgd, _) = means_of(axes)
    assert (first, second) == ("adam", "sgd")
    np.testing.assert_allclose(adam, [[0, 0.2], [1, 0.1]])  # elu, relu
    np.testing.assert_allclose(sgd, [[0, 0.5], [1, 0.5]])
    assert axes.get_legend().get_title().get_text() == "opt"
    assert axes.get_ylabel() == "median"
    lines = [bars[0] for bars in axes.containers]
    assert lines[0].get_marker() != lines[1].get_marker()
    assert [line.get_linestyle() for line in lines] == ["None", "None"]  # names have no between


@pytest.mark.parametrize("n", [1, 20])
def test_all_diverged_still_draws(save, n):
    rates = np.geomspace(1e-4, 1, n)
    axes = save(plots.replicate_means("rate", rates, np.full(n, np.nan), np.ones(n, bool))).axes[0]
    assert [text.strip() for text in texts(axes)] == ["1/1"] * n


def test_too_many_series_and_columns_that_disagree():
    nine = ("l2", list(range(9)))
    with pytest.raises(ConfigurationError, match="at most 8 values of l2, a line each, got 9"):
        plots.replicate_means("x", [1] * 9, [0.1] * 9, [False] * 9, series=nine)
    with pytest.raises(ConfigurationError, match="got x: 2, accuracy: 2, diverged: 2, l2: 9"):
        plots.replicate_means("x", [1] * 2, [0.1] * 2, [False] * 2, series=nine)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([32, 64, 256], "linear"),
        ([0.1, 0.3, 1, 3, 10], "log"),
        ([0.0, 1e-5, 1e-3], "symlog"),
        ([0.0, 0.25, 0.5], "linear"),
        ([k / 10 for k in range(1, 11)], "linear"),
        ([0.0], "linear"),
        ([-1.0, 1.0, 100.0], "linear"),
        (np.random.default_rng(0).uniform(0, 1, 60), "linear"),
        (10 ** np.random.default_rng(0).uniform(-4, -1, 60), "log"),
    ],
)
def test_a_log_axis_is_for_decades(save, values, expected):
    n = len(values)
    axes = save(plots.replicate_means("x", values, np.full(n, 0.5), np.zeros(n, bool))).axes[0]
    assert axes.get_xscale() == expected


# --- all learning curves -------------------------------------------------------------------------


def test_fan_has_every_curve_and_marks_the_best_and_the_lost(save):
    steps = np.array([10, 20, 30])
    values = np.array(
        [[0.1, 0.2, 0.3], [0.2, 0.4, 0.6], [0.3, 0.5, np.nan], [np.nan] * 3, [0.1, np.nan, 0.2]]
    )
    diverged = np.array([False, False, True, True, False])
    figure = save(
        plots.learning_fan(steps, values, diverged, best=1, best_label="id 1", title="144 runs")
    )
    (axes,) = figure.axes
    finite, lost = axes.collections
    expected = [np.c_[steps, row][np.isfinite(row)] for row in values]
    for got, i in zip(finite.get_segments(), (0, 1, 4), strict=True):
        np.testing.assert_array_equal(got, expected[i])
    np.testing.assert_array_equal(lost.get_segments(), [expected[2]])
    assert lost.get_linestyle() != finite.get_linestyle()  # not colour alone
    crosses = next(line for line in axes.lines if line.get_marker() == "X")
    np.testing.assert_array_equal(crosses.get_xydata(), [[20, 0.5]])
    top = axes.lines[-1]
    np.testing.assert_array_equal(top.get_xydata(), expected[1])
    assert top.get_linewidth() > 2 * finite.get_linewidth()[0]
    assert legend(axes) == [
        "finite (3)",
        "diverged (2, 1 of them before any value)",
        "id 1 (0.600)",
    ]
    low, high = axes.get_ylim()
    assert low < 0.1 < 0.6 < high
    assert (axes.get_yscale(), axes.get_ylabel()) == ("linear", "validation accuracy")


def test_fan_of_losses_that_explode_is_logarithmic(save):
    values = np.array([[2.0, 1.0, 0.5], [2.0, 1e4, np.nan]])
    diverged = np.array([False, True])
    axes = save(plots.learning_fan(np.arange(3), values, diverged, label="loss")).axes[0]
    assert (axes.get_yscale(), axes.get_ylabel()) == ("log", "loss")
    assert legend(axes) == ["finite (1)", "diverged (1)"]


@pytest.mark.parametrize("runs", [0, 3])
def test_fan_of_nothing_still_draws(save, runs):
    lost = np.ones(runs, bool)
    save(plots.learning_fan(np.arange(4), np.full((runs, 4), np.nan), lost))


def test_fan_wants_a_best_that_it_has():
    with pytest.raises(ConfigurationError, match="expected best from 0 to 1, got 2"):
        plots.learning_fan(np.arange(3), np.zeros((2, 3)), np.zeros(2, bool), best=2)


# --- where a sweep diverges ----------------------------------------------------------------------


def test_cells_print_the_share_that_diverged_and_when(save):
    x, y = ["a", "a", "a", "b", "b"], [1, 1, 1, 2, 2]
    diverged, steps = [True, True, False, True, True], [10, 31, 999, 7, 8]
    figure = save(plots.diverging_map("x", x, "y", y, diverged, steps, title="digits"))
    axes, bar = figure.axes
    assert at(axes, 0, 0) == ["2/3", "step 20"]  # the median of 10 and 31, halves to even
    assert at(axes, 1, 1) == ["2/2\nstep 8"]
    assert at(axes, 1, 0) == at(axes, 0, 1) == []
    shares = axes.collections[0].get_array()
    np.testing.assert_allclose(shares.filled(-1), [[2 / 3, -1], [-1, 1]])
    hatched = [p.get_xy() for p in axes.patches if isinstance(p, Rectangle) and p.get_hatch()]
    assert hatched == [(0.5, 0.5)]
    assert bar.get_ylabel() == "share of runs that diverged"
    assert bar.get_ylim() == (0, 1)
    assert figure.get_suptitle() == "digits"


def test_every_configuration_is_in_a_cell(save):
    columns, _, diverged = sweep()
    x, y = columns["learning_rate"], columns["hidden"]
    axes = save(plots.diverging_map("lr", x, "hidden", y, diverged)).axes[0]
    levels = itertools.product(
        enumerate([1e-5, 1e-4, 1e-3, 1e-1]), enumerate([(80,), (160,), (160, 80), (320,)])
    )
    order = {level: i for i, level in enumerate(sorted(set(y)))}
    for (i, a), (_, b) in levels:
        group = [k for k in range(144) if x[k] == a and y[k] == b]
        bad = diverged[group].sum()
        assert at(axes, i, order[b]) == [f"{bad}/{len(group)}" if bad else "0"]


@pytest.mark.parametrize("lost", ["some", "none", "all"])
def test_random_search_shows_each_run(save, lost):
    rng = np.random.default_rng(3)
    rate, dropout = 10 ** rng.uniform(-5, -1, 60), rng.uniform(0, 0.5, 60)
    diverged = {"some": rate > 1e-2, "none": rate > 1, "all": rate > 0}[lost]
    figure = save(plots.diverging_map("rate", rate, "dropout", dropout, diverged, np.full(60, 40)))
    (axes,) = figure.axes
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "linear")
    drawn = [np.asarray(points.get_offsets()) for points in axes.collections]
    both = [np.c_[rate, dropout][chosen] for chosen in (~diverged, diverged) if chosen.any()]
    for got, expected in zip(drawn, both, strict=True):
        np.testing.assert_array_equal(got, expected)
    k = int(diverged.sum())
    named = [f"finite ({60 - k})"] * (k < 60) + [f"diverged ({k}, median step 40)"] * (k > 0)
    assert legend(axes) == named


def test_steps_are_a_column_too():
    with pytest.raises(ConfigurationError, match="got x: 1, y: 1, diverged: 1, steps: 2"):
        plots.diverging_map("x", [1], "y", [1], [True], [1, 2])


def test_pyplot_is_never_touched():
    sources = list(Path(plots.__file__).parent.glob("*.py"))
    assert len(sources) > 3
    for source in sources:
        text = source.read_text(encoding="utf-8")
        assert "import matplotlib.pyplot" not in text
        assert "from matplotlib import pyplot" not in text
