"""Validation and test labels that are distributed differently are found, and not as overfitting."""

import json

import numpy as np
import pytest

import jaxnet
from jaxnet import diagnose
from jaxnet.data import DataSet
from jaxnet.errors import DataWarning

OPTIONS = {"steps": 200, "hidden": (20,), "learning_rate": 0.1, "batch_size": 50, "seed": 0}


@pytest.fixture(autouse=True, scope="module")
def without_pictures():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jaxnet.report.figures.draw", lambda *arguments: None)
        patch.setattr("jaxnet.report.publishing.available", lambda: False)
        yield


def blobs(labels, test_labels):
    rng = np.random.default_rng(0)
    centres = rng.normal(0, 1, (10, 30))
    images = [
        (centres[y] + rng.normal(0, 0.5, (len(y), 30))).astype(np.float32)
        for y in (labels, test_labels)
    ]
    names = [str(c) for c in range(10)]
    return DataSet.from_arrays(images[0], labels, images[1], test_labels, names)


SORTED, MIXED = np.repeat(np.arange(10), 100), np.arange(300) % 10


def test_sorted_rows_train_as_any_others():
    result = jaxnet.train(blobs(SORTED, MIXED), **OPTIONS)
    assert result.best is not None
    assert result.best.outcome.val_accuracy > 0.95
    assert str(diagnose(result)) == "nothing wrong was found"


@pytest.mark.parametrize("classes", [6, 8])
def test_a_tail_of_other_classes_is_no_overfitting(tmp_path, classes):
    """Of classes above `classes` a few rows are trained on, and most of the last rows judge."""
    few = np.repeat(np.arange(classes, 10), 3)
    labels = np.concatenate([np.arange(600) % classes, few, np.full(200, 9)])
    with pytest.warns(DataWarning, match="validation labels are distributed differently"):
        result = jaxnet.train(
            blobs(labels, MIXED % classes), split="tail", validation=200, out=tmp_path, **OPTIONS
        )
    for found in (diagnose(result), diagnose(tmp_path)):
        assert "label shift" in found.names
        assert "overfitting" not in found.names
        assert "no better than chance" not in found.names
        finding = next(finding for finding in found if finding.name == "label shift")
        expected = result.label_shifts["validation"].distance
        assert finding.evidence["distance"] == expected > 0.9
        assert "stratified" in finding.change


def test_a_test_set_of_other_classes_is_found(tmp_path):
    with pytest.warns(DataWarning, match="test labels are distributed differently"):
        result = jaxnet.train(blobs(SORTED[:500], SORTED[500:]), out=tmp_path, **OPTIONS)
    for found in (diagnose(result), diagnose(tmp_path)):
        assert found.names == ["label shift of the test set"]
        assert next(iter(found)).evidence == {"distance": 1.0, "of classes not trained on": 1.0}


def test_a_folder_whose_shifts_are_damaged_says_nothing_of_them(tmp_path):
    result = jaxnet.train(blobs(SORTED, MIXED), out=tmp_path, **OPTIONS)
    config = json.loads((tmp_path / "config.json").read_text())
    for damaged in ({}, {"validation": 3}, {"validation": {"distance": "far"}}, {"test": None}):
        config["label_shifts"] = damaged
        (tmp_path / "config.json").write_text(json.dumps(config))
        assert diagnose(tmp_path).names == diagnose(result).names
