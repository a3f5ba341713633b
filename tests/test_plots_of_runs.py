"""Pictures of several runs, of layers, of a derivative and of a winner, read back from artists."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxnet import plots
from jaxnet.errors import ConfigurationError
from jaxnet.sweeps.results.record import History, Outcome
from jaxnet.sweeps.results.replicates import rank_replicates, replicates, within_noise
from jaxnet.sweeps.results.rows import Row


def history(losses, accuracies):
    evaluated = np.arange(1, len(accuracies) + 1) * 10
    val = np.asarray(accuracies, np.float64)
    loss = np.asarray(losses, np.float32)
    return History(np.arange(len(loss)), loss, evaluated, val + 0.1, val)


# --- parallel coordinates ------------------------------------------------------------------------


def lines(axes):
    dashed, solid = (c.get_segments() for c in axes.collections)
    return dashed, solid


def test_parallel_lines_go_through_their_values():
    columns = {"rate": [1e-3, 1e-2, 1e-1, 1e-2], "norm": ["none", "batch", "none", "none"]}
    figure = plots.parallel_coordinates(
        columns, [0.2, 0.6, np.nan, 0.4], [False, False, True, False], title="three, and one gone"
    )
    axes = figure.axes[0]
    dashed, solid = lines(axes)
    # Evenly spaced levels, names in order; the accuracy between its lowest and highest.
    np.testing.assert_allclose(dashed[0][:, 1], [1, 1, -0.12])
    np.testing.assert_allclose(
        [line[:, 1] for line in solid], [[0, 1, 0], [0.5, 1, 0.5], [0.5, 0, 1]], atol=1e-12
    )
    widths = axes.collections[1].get_linewidths()
    assert list(widths) == sorted(widths)  # the best is drawn last, and thickest
    texts = [text.get_text() for text in axes.texts]
    assert "diverged (1)" in texts
    assert {"0.001", "0.01", "0.1", "batch", "none"} <= set(texts)
    assert figure.get_suptitle() == "three, and one gone"


def test_many_numbers_stand_by_size_on_a_log_axis():
    rates = np.geomspace(1e-4, 1, 30)
    figure = plots.parallel_coordinates({"rate": rates}, np.linspace(0, 1, 30), [False] * 30)
    _, solid = lines(figure.axes[0])
    np.testing.assert_allclose([line[0, 1] for line in solid], np.linspace(0, 1, 30))


@pytest.mark.parametrize("diverged", [[True, True], [False, False]])
def test_one_value_or_one_accuracy_still_draws(diverged):
    plots.parallel_coordinates({"rate": [1.0, 1.0]}, [0.5, 0.5], diverged)


def test_parallel_refuses_what_does_not_fit():
    with pytest.raises(ConfigurationError, match="one value per configuration"):
        plots.parallel_coordinates({"rate": [1.0]}, [0.5, 0.5], [False, False])
    with pytest.raises(ConfigurationError, match="at least one hyperparameter"):
        plots.parallel_coordinates({}, [0.5], [False])


# --- several runs --------------------------------------------------------------------------------


def test_comparison_shows_each_run_and_its_best():
    runs = {
        "sgd": history(np.linspace(2, 1, 20), [0.3, 0.5, 0.4]),
        "adam": history(np.linspace(2, 0.5, 20), [0.6, 0.7, 0.65]),
        "lost": history([2.0, 1e9, np.inf], [np.nan] * 3),
    }
    figure = plots.optimizer_comparison(runs, title="rules")
    loss, train, val = figure.axes
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == ["sgd (0.500)", "adam (0.700)", "lost (diverged)"]
    np.testing.assert_array_equal(val.lines[1].get_ydata(), [0.6, 0.7, 0.65])
    np.testing.assert_allclose(train.lines[0].get_ydata(), [0.4, 0.6, 0.5])
    np.testing.assert_allclose(loss.lines[0].get_ydata(), np.linspace(2, 1, 20), rtol=1e-6)
    assert loss.get_yscale() == "log"
    looks = {(line.get_linestyle(), line.get_marker()) for line in val.lines}
    assert len(looks) == 3  # not by colour alone


@pytest.mark.parametrize("count", [0, 11])
def test_comparison_of_none_or_too_many(count):
    one = history([1.0], [0.5])
    with pytest.raises(ConfigurationError, match="1 to 10 runs"):
        plots.optimizer_comparison({str(i): one for i in range(count)})


# --- activations ---------------------------------------------------------------------------------


def test_activations_are_counted():
    layer = np.r_[np.zeros(50), np.linspace(0.1, 1, 50)].reshape(10, 10)
    figure = plots.activation_histograms([layer, layer - 0.5])
    first, second = figure.axes
    assert "50% are 0" in first.get_title()
    assert "are 0" not in second.get_title()
    heights = [patch.get_height() for patch in first.patches]
    assert sum(heights) == pytest.approx(1, abs=0.03)  # the outer thousandths are cut off
    assert heights[-1] == 0.5


def test_activations_that_are_not_there():
    with pytest.raises(ConfigurationError, match="at least one layer"):
        plots.activation_histograms([])
    with pytest.raises(ConfigurationError, match="layer 2 has no finite output"):
        plots.activation_histograms([np.ones((2, 2)), np.full((2, 2), np.nan)])


# --- the error of difference quotients -----------------------------------------------------------


def error(figure):
    return figure.axes[0].lines[0].get_ydata()


def test_a_right_derivative_has_a_valley_and_a_wrong_one_a_floor():
    x = np.linspace(-1, 1, 5)

    def f(v):
        return jnp.sum(jnp.sin(v))

    right = float(np.cos(x).sum() / np.sqrt(5))
    valley = error(plots.error_ladder(f, x, right))
    assert valley.min() < 1e-9
    # Truncation falls with h²: 100 times from h to h/10, well above rounding.
    assert valley[-1] / valley[-3] == pytest.approx(100, rel=0.1)
    floor = error(plots.error_ladder(f, x, 1.01 * right))
    assert floor.min() == pytest.approx(0.01 / 1.01, rel=1e-2)


@pytest.mark.parametrize("derivative", [0.0, np.nan])
def test_a_derivative_without_relative_error(derivative):
    with pytest.raises(ConfigurationError, match=r"another direction|expected a finite number"):
        plots.error_ladder(jnp.sum, np.ones(2), derivative)


# --- the winner ----------------------------------------------------------------------------------


def rows(groups):
    made = []
    for rate, accuracies in groups.items():
        for seed, accuracy in enumerate(accuracies):
            settings = {"learning_rate": rate, "hidden": [20], "seed": seed}
            status = "diverged@3" if np.isnan(accuracy) else "ok"
            outcome = Outcome(10, 1.0, accuracy, accuracy, status, history([1.0], [accuracy]))
            made.append(Row(len(made), settings, outcome))
    return made


def test_the_winner_and_those_like_it_are_filled():
    groups = {0.1: [0.80, 0.82, 0.81], 0.2: [0.80, 0.83, 0.79], 0.3: [0.5, 0.51, np.nan]}
    ranked = rank_replicates(replicates(rows(groups)))
    figure = plots.winner_reliability(ranked, ["learning_rate", "hidden", "seed"])
    axes = figure.axes[0]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels[0] == "learning_rate 0.1, hidden 20"
    close = within_noise(ranked[0], ranked[1:])
    assert [setting.settings["learning_rate"] for setting in close] == [0.2]
    means = [c.lines[0] for c in axes.containers]
    assert [line.get_markerfacecolor() for line in means][2] == "white"
    np.testing.assert_allclose([line.get_xdata()[0] for line in means], [0.81, 0.8066667, 0.505])
    assert [text.get_text() for text in axes.texts] == [" ✕ 1 diverged"]


def test_no_winner():
    with pytest.raises(ConfigurationError, match="did not diverge"):
        plots.winner_reliability(replicates(rows({0.1: [np.nan]})), ["learning_rate"])
