"""JSON is JSON: what is written, printed or stored parses where NaN and Infinity are refused."""

import json
import math
import sqlite3

import numpy as np
import pytest
from safetensors import safe_open

import jaxnet
from jaxnet.host.texts import parse_json, to_json


def strictly(text):
    """What a parser finds that takes no word beyond JSON."""

    def refuse(word):
        raise AssertionError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


def _texts_of(folder):
    """Every JSON text in a run folder, with where it stands."""
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".json":
            yield path.name, path.read_text("utf-8")
        elif path.suffix == ".safetensors":
            with safe_open(path, framework="numpy") as file:
                for name, text in (file.metadata() or {}).items():
                    yield f"{path.name}, {name}", text
        elif path.suffix == ".html":
            page = path.read_text("utf-8")
            start = page.index('type="application/json"')
            yield path.name, page[page.index(">", start) + 1 : page.index("</script>", start)]
    store = sqlite3.connect(folder / "sweep.db")
    tables = [
        name for (name,) in store.execute("SELECT name FROM sqlite_master WHERE type='table'")
    ]
    for table in tables:
        for row in store.execute(f"SELECT * FROM {table}"):
            yield from ((table, v) for v in row if isinstance(v, str) and v.startswith(("{", "[")))
    store.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of a sweep that diverges in every number there is, two seeds each."""
    out = tmp_path_factory.mktemp("json") / "run"
    space = jaxnet.grid(learning_rate=[1e-2, 1e30], seed=[0, 1])
    jaxnet.sweep(space, steps=6, hidden=[5], batch_size=20, out=out, keep=None)
    return out


def test_every_json_of_a_run_folder_is_strict(folder):
    texts = list(_texts_of(folder))
    found = {where.split(",")[0] for where, _ in texts}
    assert {"config.json", "summary.json", "best.safetensors", "report.html"} <= found
    for _, text in texts:
        strictly(text)


def test_a_sweep_in_which_all_diverged_writes_strict_json(tmp_path):
    jaxnet.sweep([{"learning_rate": 1e30}], steps=4, hidden=[5], out=tmp_path / "run")
    summary = strictly((tmp_path / "run" / "summary.json").read_text("utf-8"))
    assert summary["best"] is None
    for _, text in _texts_of(tmp_path / "run"):
        strictly(text)


def test_what_is_not_finite_is_null_or_spelled_out():
    value = {"a": [1.5, math.nan, (math.inf, -math.inf)], "b": np.float64("nan"), "c": True}
    assert strictly(to_json(value)) == {"a": [1.5, None, [None, None]], "b": None, "c": True}
    spelled = strictly(to_json(value, spelled=True))
    assert spelled == {"a": [1.5, "nan", ["inf", "-inf"]], "b": "nan", "c": True}


def test_what_a_default_returns_is_finite_too():
    assert strictly(to_json({"x": np.float32("nan"), "y": 2}, default=float)) == {"x": None, "y": 2}


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
def test_words_beyond_json_are_refused_when_read(word):
    with pytest.raises(ValueError, match=f"{word} is no number of JSON"):
        parse_json(f'{{"loss": {word}}}')


def test_the_reports_of_the_checker_are_strict_json():
    report = jaxnet.check_grads(
        lambda x: (x**2).sum(), (np.ones(2),), grad=lambda x: x * np.nan, directions=1
    )
    assert report.verdict == "FAIL"
    strictly(report.to_json(indent=1))
