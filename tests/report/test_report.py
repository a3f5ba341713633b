"""What the page holds is read back from the file and compared with the result it is of."""

import base64
import io
import json
import re

import jax
import numpy as np
import pytest
from matplotlib.image import imread

import jaxnet
from jaxnet.cli import parser as cli
from jaxnet.data import Examples
from jaxnet.errors import ConfigurationError, RunFolderError
from jaxnet.report import page
from jaxnet.report.importance import importance
from jaxnet.sweeps.results.judged import Judged, judge_scores


def held(path):
    """The data in a report."""
    text = path.read_text(encoding="utf-8")
    (found,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    return json.loads(found)


@pytest.fixture(scope="module")
def run(swept):
    (found,) = held(swept.folder / "report.html")["runs"]
    return found


def test_a_run_leaves_one_small_file_that_asks_for_nothing(swept, single, halved):
    for result in (swept, single, halved):
        path = result.folder / "report.html"
        assert path.stat().st_size < 3e6
        text = path.read_text(encoding="utf-8")
        assert "default-src 'none'" in text
        assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//""", text)


def test_the_table_is_that_of_the_rows(run, swept):
    table = dict(zip(run["table"]["names"], run["table"]["columns"], strict=True))
    assert list(table) == [
        *("id", "learning_rate", "l2", "seed", "steps", "final_loss"),
        *("train_accuracy", "val_accuracy", "status"),
    ]
    for row in swept.rows:
        for name, value in row.to_dict().items():
            if name in table:
                number = isinstance(value, float)  # of which six digits are kept
                assert table[name][row.id] == (pytest.approx(value, rel=1e-5) if number else value)


def test_each_axis_has_its_best_setting_with_the_interval_over_seeds(run, swept):
    axis = next(axis for axis in run["axes"] if axis["name"] == "learning_rate")
    assert axis["log"]
    for level in axis["levels"]:
        mine = [s for s in swept.replicates if s.settings["learning_rate"] == level["x"]]
        assert level["diverged"] == sum(s.diverged for s in mine)
        assert level["runs"] == 4
        if level["x"] == 1e9:
            assert level["n"] == 0
            continue
        best = max(mine, key=lambda s: s.mean)
        assert level["best"] == pytest.approx(best.mean, rel=1e-5)
        assert [level["low"], level["high"]] == pytest.approx(best.interval, rel=1e-5)


def test_facts_curves_and_what_to_try(run, swept):
    assert ["diverged", "4"] in run["facts"]
    assert ["configurations", "12"] in run["facts"]
    assert sum(curve["diverged"] for curve in run["fan"]["curves"]) == 4
    assert run["best"]["id"] == swept.best.id
    loss = swept.best.outcome.history.loss
    np.testing.assert_allclose(run["best"]["loss"], loss, rtol=1e-5)  # six digits are kept
    assert [f["name"] for f in run["diagnosis"]] == jaxnet.diagnose(swept).names
    assert run["work"]["training_seconds"] > 0
    assert "12 configurations × 40 steps" in run["plan"]
    assert run["again"]["versions"]["jaxnet"] == "0.1.0"
    assert json.loads(run["again"]["job"])["steps"] == 40


def test_confusion_and_mistakes_are_those_of_the_best_network(run, swept, data):
    examples = data.split(50).validation
    predicted = swept.network.predict(examples.images)
    expected = np.zeros((3, 3), int)
    for is_, said in zip(examples.labels, predicted, strict=True):
        expected[is_, said] += 1
    assert run["judged"]["confusion"] == expected.tolist()
    mistakes = run["judged"]["mistakes"]
    assert {m["row"] for m in mistakes} <= set(np.flatnonzero(predicted != examples.labels))
    shares = [m["share"] for m in mistakes]
    assert shares == sorted(shares, reverse=True)
    assert all(m["image"].startswith("data:image/png") for m in mistakes)


def decoded(picture):
    kind, _, text = picture.partition("base64,")
    assert kind == "data:image/png;"
    return imread(io.BytesIO(base64.b64decode(text)), format="png")


def test_the_first_layers_of_the_best_few_that_are_kept(data, tmp_path):
    space = jaxnet.grid(learning_rate=[1e9, 1e-1, 1e-2, 1e-3, 1e-4])
    settings = {"steps": 20, "hidden": (6,), "batch_size": 20}
    result = jaxnet.sweep(space, data, out=tmp_path / "run", keep=None, **settings)
    best = [setting.rows[0] for setting in result.replicates[:3]]
    (run,) = held(tmp_path / "run" / "report.html")["runs"]
    assert [shown["id"] for shown in run["weights"]] == [row.id for row in best]
    for shown, row in zip(run["weights"], best, strict=True):
        rate = row.settings["learning_rate"]
        assert shown["label"] == f"learning_rate {rate:g}"
        assert shown["accuracy"] == pytest.approx(row.outcome.val_accuracy, rel=1e-5)
        # The first tile, inside the frame of two pixels, is the unit of the largest norm.
        weights = result.network_of(row.id).params["affine_1"]["w"]
        largest = weights[:, np.argmax(np.linalg.norm(weights, axis=0))].reshape(4, 3)
        grey = (largest - largest.min()) / (largest.max() - largest.min())
        np.testing.assert_allclose(decoded(shown["image"])[:4, :3, 0], grey, atol=1 / 255)
    (again,) = held(jaxnet.write_report([tmp_path / "run"]))["runs"]  # from the folder alone
    assert again["weights"] == run["weights"]
    jaxnet.sweep(space, data, out=tmp_path / "few", **settings)  # keeps the best alone
    (run,) = held(tmp_path / "few" / "report.html")["runs"]
    assert [shown["id"] for shown in run["weights"]] == [result.best.id]


def test_surest_mistakes_by_hand(tmp_path):
    images = np.arange(4 * 4, dtype=np.uint8).reshape(4, 2, 2, 1)
    examples = Examples(images, np.array([0, 0, 0, 1], np.int32))
    scores = np.array([[0.0, 3.0], [1.0, 0.0], [0.0, 9.0], [2.0, 0.0]])
    judged = judge_scores(scores, examples)
    assert judged.mistakes.tolist() == [2, 0, 3]
    assert judged.confidence[1] == pytest.approx(np.e / (1 + np.e))
    assert judged.confusion(2).tolist() == [[1, 2], [1, 0]]
    judged.save(tmp_path / "judged")
    assert Judged.load(tmp_path / "judged").images.tolist() == judged.images.tolist()


def test_a_halving_shows_its_rungs(halved):
    (run,) = held(halved.folder / "report.html")["runs"]
    counts = [(rung["step"], len(rung["on"]), len(rung["cut"])) for rung in run["rungs"]]
    assert counts == [(10, 2, 2), (20, 1, 1), (40, 1, 0)]


def test_a_single_run_shows_its_layers(single):
    (run,) = held(single.folder / "report.html")["runs"]
    assert run["kind"] == "run"
    titles = [panel["title"] for panel in run["layers"]["panels"]]
    assert titles[:3] == ["Update-to-weight ratio", "Gradient by layer", "Dead units"]
    assert run["layers"]["steps"] == [0, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40]
    assert single.layers is not None
    # Plain SGD: the update is the gradient times the rate.
    np.testing.assert_allclose(single.layers.update, 0.1 * single.layers.gradient, rtol=1e-5)
    weights = single.network.params["affine_1"]["w"]
    size = float(np.sqrt(np.mean(weights**2)))
    assert single.layers.weight[-1, 0] == pytest.approx(size, rel=1e-5)


def test_a_users_model_has_a_report_too(data, tmp_path):
    def init(key):
        return jax.random.normal(key, (12, 3)) / 4

    def loss(params, x, labels, key):
        scores = x.reshape(len(x), -1) @ params
        return -jax.nn.log_softmax(scores)[jax.numpy.arange(len(x)), labels].mean(), scores

    space = jaxnet.grid(learning_rate=[0.1, 0.01])
    out = tmp_path / "run"
    result = jaxnet.sweep(space, data, model=jaxnet.Model(init, loss), steps=20, out=out)
    (run,) = held(out / "report.html")["runs"]
    assert run["judged"]["names"] == list(data.class_names)
    assert run["best"]["id"] == result.best.id
    assert run["weights"] == []  # what are the weights of its first layer?
    (out / "report.html").unlink()
    (again,) = held(jaxnet.write_report([out]))["runs"]  # the functions are not in the folder
    assert sorted(again["table"]["columns"][-2]) == sorted(run["table"]["columns"][-2])


def test_the_command_reads_the_folder_back(swept, single, tmp_path, capsys, run):
    before = held(swept.folder / "report.html")
    (swept.folder / "report.html").unlink()
    assert cli.main(["report", str(swept.folder)]) == 0
    assert capsys.readouterr().out.strip() == str(swept.folder / "report.html")
    after = held(swept.folder / "report.html")
    assert after["runs"][0] == before["runs"][0]
    out = tmp_path / "both.html"
    assert cli.main(["report", str(swept.folder), str(single.folder), "--out", str(out)]) == 0
    assert [run["name"] for run in held(out)["runs"]] == ["swept", "single"]


def test_what_is_missing_is_said(tmp_path, swept, monkeypatch, capsys):
    with pytest.raises(RunFolderError, match="is not a run folder"):
        jaxnet.write_report([tmp_path])
    with pytest.raises(ConfigurationError, match="at least one"):
        jaxnet.write_report([])
    with pytest.raises(RunFolderError, match="cannot write"):
        jaxnet.write_report([swept.folder], tmp_path / "no" / "folder.html")
    monkeypatch.setattr(page, "available", lambda: False)
    assert cli.main(["report", str(swept.folder)]) == 2
    assert "pip install 'jaxnet[report]'" in capsys.readouterr().err


def test_importance_finds_what_was_planted():
    rng = np.random.default_rng(0)
    decisive, idle = rng.integers(0, 4, 200).tolist(), rng.integers(0, 4, 200).tolist()
    worth = [-abs(d - 2) + 0.01 * rng.random() for d in decisive]
    found = importance({"idle": idle, "decisive": decisive, "constant": [1] * 200}, worth)
    assert found is not None
    assert set(found) == {"idle", "decisive"}
    assert sum(found.values()) == pytest.approx(1)
    assert found["decisive"] > 0.75  # the share that noise in 20 of 200 leaves to the idle one
    assert importance({"decisive": decisive[:5]}, worth[:5]) is None  # too few to tell
