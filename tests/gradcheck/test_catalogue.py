"""The table of what is proved: it is complete, its rows hold, and a planted fault does not."""

import numpy as np
import pytest

from jaxnet import compose, layers, losses
from jaxnet.gradcheck.catalogue import DTYPES, catalogue, updates, without_row
from jaxnet.optimizers import OPTIMIZERS, OptimizerRule
from jaxnet.training.settings import NORMS


@pytest.fixture(scope="module")
def rows():
    return catalogue()


def find(rows, name, *options):
    """The first row of that name whose options contain all of these."""
    return next(row for row in rows if row.name == name and all(o in row.options for o in options))


# Complete


def test_everything_of_jaxnet_has_a_row(rows):
    assert without_row(rows) == []
    proved = {(row.kind, row.name) for row in rows}
    for name in layers.__all__:
        if name.endswith(("_forward", "_backward")):
            assert ("layer", name.rpartition("_")[0]) in proved
    for kind, names in [
        ("layer", layers.ACTIVATIONS),
        ("loss", losses.LOSSES),
        ("network", [f"norm {name}" for name in NORMS]),
        ("update rule", OPTIMIZERS),
    ]:
        assert {(kind, name) for name in names} <= proved


def test_every_combinator_has_a_row(rows):
    public = {name for name, value in vars(compose).items() if callable(value) and name[0] != "_"}
    own = {name for name in public if getattr(compose, name).__module__ == "jaxnet.compose"}
    assert own == {row.name for row in rows if row.kind == "composition"}


@pytest.mark.parametrize("name", ["relu", "batchnorm", "svm", "concat", "norm layer", "adam"])
def test_what_has_no_row_is_named(rows, name):
    kind = find(rows, name).kind
    assert without_row([row for row in rows if row.name != name]) == [f"{kind} {name}"]


def test_a_new_layer_loss_or_rule_without_a_row_is_named(rows, monkeypatch):
    monkeypatch.setattr(layers, "__all__", [*layers.__all__, "swish_forward", "swish_backward"])
    monkeypatch.setitem(losses.LOSSES, "hinge", losses.multiclass_svm)
    monkeypatch.setitem(OPTIMIZERS, "lion", OPTIMIZERS["sgd"])
    assert without_row(rows) == ["layer swish", "loss hinge", "update rule lion"]
    # A new loss is checked without being asked for, a new rule needs its recurrence.
    assert without_row(catalogue()) == ["layer swish", "update rule lion"]


def test_every_option_is_in_the_table(rows):
    words = {kind: " ".join(r.options for r in rows if r.kind == kind) for _, kind in KINDS}
    for text in [f"depth {n}" for n in (2, 3, 4, 5, 6)] + ["batch 1", "width 1", "no dropout"]:
        assert text in words["network"]
    for text in (*layers.ACTIVATIONS, *losses.LOSSES, "l2 0,", "0.1 half", "0.1 full"):
        assert text in words["network"]
    assert "widths 4 and 3 of 6 and 5" in words["network"]
    for text in ("width 4", "1×1", "1×3", "train", "test", "rate 0.0", "rate 1.0", "one of them 0"):
        assert text in words["layer"]
    for text in ("label_smoothing 0.1", "half", "full", "margin"):
        assert text in words["loss"]
    for kind in words:
        assert all(dtype in words[kind] for dtype in DTYPES)
    for norm in NORMS:
        nets = [row.options for row in rows if row.name == f"norm {norm}"]
        for depth in (2, 3, 4, 5, 6):
            own = [o for o in nets if o.startswith(f"depth {depth}, ")]
            assert {("dropout 0.3" in o, "l2 0," in o) for o in own} == {
                (drop, l2) for drop in (True, False) for l2 in (True, False)
            }


KINDS = [
    ("affine", "layer"),
    ("softmax", "loss"),
    ("serial", "composition"),
    ("norm none", "network"),
    ("adam", "update rule"),
]


def test_rows_are_told_apart_by_their_words(rows):
    words = [row[:3] for row in rows]
    assert len(set(words)) == len(words)


# Some rows hold


@pytest.mark.parametrize(
    ("name", "options", "verdict"),
    [
        ("affine", ("2×3×2", "float32"), "PASS"),
        ("relu", ("one of them 0", "float64"), "KINK"),
        ("batchnorm", ("7×5, train", "float64"), "PASS"),
        ("layernorm", ("3×1", "float32"), "PASS"),
        ("layernorm", ("3×7, width 4", "float64"), "PASS"),
        ("first_units", ("3×5, width 2", "float64"), "PASS"),
        ("dropout", ("rate 0.3", "float64"), "PASS"),
        ("softmax", ("label_smoothing 0.1", "float32"), "PASS"),
        ("svm", ("margin", "float64"), "PASS"),
        ("l2_penalty", ("l2 0.3", "full", "float64"), "PASS"),
        ("concat", ("residual", "float64"), "PASS"),
        ("as_custom_vjp", ("float32",), "PASS"),
        ("norm layer", ("depth 2", "l2 0.1", "float32"), "PASS"),
        ("norm layer", ("widths", "l2 0.1", "float64"), "PASS"),
        ("norm batch", ("depth 2", "l2 0.1", "float64"), "PASS"),
        *[(name, ("3×5", "float32"), "PASS") for name in OPTIMIZERS],
    ],
)
def test_a_row_holds(rows, name, options, verdict):
    report = find(rows, name, *options).check(0)
    assert report.verdict == verdict, str(report)
    assert not [note for note in report.notes if "raised" in note]
    assert report.leaves


def test_seeds_draw_other_arguments(rows):
    row = find(rows, "tanh", "3×5", "float64")
    values = [row.check(seed).value for seed in (0, 1, 1)]
    assert values[0] != values[1] == values[2]


def test_rows_of_other_numbers_and_dtypes_share_compiled_code(rows):
    from jaxnet.gradcheck.jaxpr import trace

    find(rows, "dropout", "5×7, rate 0.0", "float64").check(0)
    before = set(trace._COMPILED)
    find(rows, "dropout", "5×7, rate 0.3", "float64").check(0)
    assert set(trace._COMPILED) <= before
    find(rows, "dropout", "5×7, rate 0.3", "float32").check(0)
    assert {key[0] for key in set(trace._COMPILED) - before} <= {"run"}  # no new evaluator


# Planted faults


def test_a_wrong_backward_fails_its_rows(monkeypatch):
    right = layers.affine_backward

    def wrong(dout, cache):
        dx, dw, db = right(dout, cache)
        return dx, dw, 1.01 * db

    monkeypatch.setattr(layers, "affine_backward", wrong)
    report = find(catalogue(), "affine", "3×4", "float64").check(0)
    assert {leaf.path: leaf.verdict for leaf in report.leaves} == {
        "x": "PASS",
        "w": "PASS",
        "b": "FAIL",
    }


def test_a_wrong_update_rule_fails_its_rows(monkeypatch):
    right = OPTIMIZERS["momentum"]
    halved = OptimizerRule(lambda rate, numbers: right.build(0.5 * rate, numbers), {})
    monkeypatch.setitem(OPTIMIZERS, "momentum", halved)
    report = find(catalogue(), "momentum", "3×5", "float64").check(0)
    assert report.verdict == "FAIL"
    assert {leaf.verdict for leaf in report.leaves} == {"FAIL"}
    assert "differ from the recurrence" in str(report)


def test_steps_that_are_not_finite_are_infinitely_far():
    got = np.array([[1.0], [np.nan]])
    assert updates._largest_error(got, np.ones((2, 1))) == np.inf
