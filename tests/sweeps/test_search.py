"""Batched ask and tell: every batch is one call, told in full, and a killed search goes on."""

import dataclasses
import json

import jax
import pytest

from jaxnet.errors import ConfigurationError, RunFolderError
from jaxnet.sweeps import choice, grid, log_uniform, random_draws, read_job
from jaxnet.sweeps.folder.store import Store
from jaxnet.sweeps.run.search import RandomSearch
from jaxnet.verbs import search, sweep

pytestmark = pytest.mark.slow

RUN = {"steps": 12, "batch_size": 10, "hidden": [4], "evaluations": 3}
RATES = [0.3, 0.1, 1e9, 0.03, 0.01, 1.0, 0.2]


class Listing:
    """Asks for the rates of a list, in order; notes what it is asked and told."""

    def __init__(self, rates=RATES, **settings):
        self.left = [{"learning_rate": rate, **settings} for rate in rates]
        self.asked, self.told = [], []

    def ask(self, count):
        self.asked.append(count)
        batch, self.left = self.left[:count], self.left[count:]
        return batch

    def tell(self, rows):
        self.told.append(rows)


@pytest.fixture
def trained(monkeypatch):
    """The learning rates of each group of networks that begins to train."""
    from jaxnet.sweeps.stacks.stack import Stack

    seen, start = [], Stack.start.__func__

    def note(cls, program, configurations, *args, **options):
        seen.append([c.numbers["learning_rate"] for c in configurations])
        return start(cls, program, configurations, *args, **options)

    monkeypatch.setattr(Stack, "start", classmethod(note))
    return seen


@pytest.fixture
def compilations():
    seen = []

    def listen(event, seconds, **more):
        if "backend_compile" in event:
            seen.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield seen
    jax.monitoring.unregister_event_duration_listener(listen)


def rates(rows):
    return [row.settings["learning_rate"] for row in rows]


def outcomes(result):
    return [json.dumps(dataclasses.asdict(row), default=str) for row in result.rows]


def test_each_batch_is_trained_at_once_and_told_in_full(data, trained):
    sampler = Listing()
    result = search(sampler, data, trials=7, batch=3, **RUN)
    assert sampler.asked == [3, 3, 1]
    assert trained == [RATES[:3], RATES[3:6], RATES[6:]]
    assert [rates(rows) for rows in sampler.told] == trained
    assert [row.id for rows in sampler.told for row in rows] == list(range(7))
    assert [row.ok for row in sampler.told[0]] == [True, True, False]  # the diverged one, too
    assert rates(result.rows) == RATES
    assert [row.id for row in result.rows] == list(range(7))
    assert result.best.outcome.val_accuracy == max(r.outcome.val_accuracy for r in result.rows[3:])
    assert result.network is result.networks[result.best.key]
    assert 0 <= result.test_accuracy <= 1


def test_a_search_finds_what_a_sweep_of_the_same_finds(data):
    result = search(Listing(), data, trials=7, batch=3, **RUN)
    whole = sweep([{"learning_rate": rate} for rate in RATES[2:5]], data, **RUN)
    for mine, theirs in zip(result.rows[2:5], whole.rows, strict=True):
        assert mine.settings == theirs.settings
        assert mine.outcome.status == theirs.outcome.status
        assert mine.outcome.final_loss == pytest.approx(theirs.outcome.final_loss, rel=1e-4)


def test_replicates_are_told_one_after_another(data):
    sampler = Listing(RATES[:4])
    result = search(sampler, data, trials=4, batch=3, replicates=2, seed=5, **RUN)
    assert [[row.settings["seed"] for row in rows] for rows in sampler.told] == [[5, 6] * 3, [5, 6]]
    assert [row.id for rows in sampler.told for row in rows] == list(range(8))
    assert [one.count for one in result.replicates] == [2, 2, 2, 0]


def test_a_sampler_that_has_no_more_ends_the_search(data):
    sampler = Listing(RATES[:3])
    result = search(sampler, data, trials=100, batch=3, **RUN)
    assert len(result.rows) == 3
    assert sampler.asked == [3, 3]
    with pytest.raises(ConfigurationError, match="no configuration at all"):
        search(Listing([]), data, trials=4, batch=2, **RUN)


class Counting(Listing):
    """Asks for batches of a list; notes what was compiled until each was trained."""

    def __init__(self, batches, compilations):
        self.batches, self.compilations, self.counts = list(batches), compilations, []

    def ask(self, count):
        return self.batches.pop(0)

    def tell(self, rows):
        self.counts.append(len(self.compilations))


def test_later_batches_compile_nothing(data, compilations):
    """Other numbers, other counts of each structure and the rest at the end: all find a place."""
    kinds = [["sgd", "adam", "adam"], ["sgd"] * 3, ["adam"] * 3, ["adam"]]
    batches = [
        [{"optimizer": kind, "learning_rate": 0.1 / (1 + i), "l2": 0.01 * i} for kind in some]
        for i, some in enumerate(kinds)
    ]
    sampler = Counting(batches, compilations)
    result = search(sampler, data, trials=10, batch=3, **RUN)
    assert sampler.counts[0] > 0
    assert sampler.counts == sampler.counts[:1] * 4
    assert [row.settings["optimizer"] for row in result.rows] == [o for some in kinds for o in some]


def test_narrower_networks_find_a_place_in_wider_ones(data, compilations):
    run = {**RUN, "learning_rate": 0.1}
    del run["hidden"]
    widths = [[[3], [9]], [[5], [7]], [[2], [2]]]
    batches = [[{"hidden": hidden, "l2": 0.01 * i} for i, hidden in enumerate(w)] for w in widths]
    sampler = Counting(batches, compilations)
    result = search(sampler, data, trials=6, batch=2, **run)
    assert sampler.counts == sampler.counts[:1] * 3
    alone = sweep([{"hidden": [2]}], data, **run)
    expected = alone.rows[0].outcome.final_loss
    assert result.rows[4].outcome.final_loss == pytest.approx(expected, rel=1e-4)


def test_where_memory_runs_out_rounds_stay_smaller(data, monkeypatch):
    from jaxnet.sweeps.stacks.stack import Stack

    sizes, train = [], Stack.train

    def fill_memory(stack, *args, **options):
        sizes.append(len(stack.columns))
        if sizes[-1] > 2 and len(sizes) > 1:  # not in the first round
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")
        return train(stack, *args, **options)

    monkeypatch.setattr(Stack, "train", fill_memory)
    sampler = Listing()
    search(sampler, data, trials=7, batch=3, **RUN)
    assert sizes == [3, 3, 2, 2, 2]
    assert [len(rows) for rows in sampler.told] == [3, 3, 1]


# In a run folder


def killed_in_batch(number, sampler, data, **options):
    """Run a search that dies while its batch of that number trains."""

    def die(evaluation):
        if len(sampler.told) == number and evaluation.step > 4:
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        search(sampler, data, callback=die, **options)


def test_a_killed_search_goes_on_where_it_was(data, tmp_path, trained):
    options = {"trials": 7, "batch": 3, **RUN}
    whole = search(Listing(), data, out=tmp_path / "whole", **options)
    out = tmp_path / "killed"
    killed_in_batch(1, Listing(), data, out=out, **options)
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["complete"], summary["configurations"]) == (False, 3)
    trained.clear()
    sampler = Listing()
    result = search(sampler, data, out=out, **options)
    assert trained == [RATES[3:6], RATES[6:]]
    assert [rates(rows) for rows in sampler.told] == [RATES[:3], RATES[3:6], RATES[6:]]
    assert outcomes(result) == outcomes(whole)


def test_the_folder_is_that_of_one_run(data, tmp_path, trained):
    out = tmp_path / "run"
    result = search(Listing(), data, trials=7, batch=3, out=out, **RUN)
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["complete"], summary["configurations"]) == (True, 7)
    assert len((out / "results.csv").read_text().splitlines()) == 8
    with Store(out / "sweep.db") as store:
        assert len(store.results()) == 7
    assert len(list((out / "networks").iterdir())) == 1  # keep=1, of all batches
    trained.clear()
    again = sweep(read_job(out / "config.json").space, data, out=out, **RUN)  # as a sweep's
    assert not trained
    assert outcomes(again) == outcomes(result)


def test_asking_again_costs_nothing(data, trained):
    asked = [0.1, 0.2, 0.4, 0.2, 0.1, 0.1, 0.1, 0.3, 0.3]
    sampler = Listing(asked)
    result = search(sampler, data, trials=9, batch=3, **RUN)
    assert trained == [[0.1, 0.2, 0.4], [0.3]]
    assert rates(result.rows) == asked
    assert [len(rows) for rows in sampler.told] == [3, 3, 3]


def test_what_was_cut_stays_so_in_later_batches(data, tmp_path, trained):
    def cut(evaluation):
        return [id for id in evaluation.ids if id in (1, 3)]

    result = search(Listing(), data, trials=6, batch=3, out=tmp_path / "run", callback=cut, **RUN)
    assert trained == [RATES[:3], RATES[3:6]]
    assert [row.outcome.kind for row in result.rows] == [
        *("ok", "cut", "diverged"),
        *("cut", "ok", "ok"),
    ]


def test_another_folder_or_other_data_is_refused(data, make_data, tmp_path):
    search(Listing(), data, trials=3, batch=3, out=tmp_path / "run", **RUN)
    with pytest.raises(RunFolderError, match="holds another run"):
        search(Listing(), make_data(seed=9), trials=3, batch=3, out=tmp_path / "run", **RUN)


# Random search, and errors


def test_random_search_is_the_random_sweep(data, as_a_user):
    space = random_draws(5, learning_rate=log_uniform(1e-3, 1), init_scale=choice(1, 2), l2=0.1)
    result = search(RandomSearch(space, seed=3), data, trials=5, batch=3, **RUN)
    for row, settings in zip(result.rows, space.settings(3), strict=True):
        assert {name: row.settings[name] for name in settings} == settings
    with pytest.raises(ConfigurationError, match="RandomSearch draws from random_draws"):
        RandomSearch(grid(learning_rate=[0.1]), seed=3)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"trials": 0}, "trials: expected a whole number from 1 up, got 0"),
        ({"batch": 1.5}, "batch: expected a whole number, got 1.5"),
        ({"sampler": Listing([0.1], optimiser="adam")}, "unknown setting 'optimiser'"),
        ({"steps": 0}, "steps: expected a whole number"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(
    data, tmp_path, change, error, as_a_user
):
    options = {"sampler": Listing(), "trials": 2, "batch": 2, **RUN, **change}
    with pytest.raises(ConfigurationError, match=error):
        search(options.pop("sampler"), data, out=tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_what_a_sampler_may_return(data, as_a_user):
    class One:
        def ask(self, count):
            return {"learning_rate": 0.1}

        def tell(self, rows):
            """Never."""

    with pytest.raises(ConfigurationError, match=r"ask\(2\) of the sampler should return a list"):
        search(One(), data, trials=2, batch=2, **RUN)


def test_the_bar_counts_trials(data, capsys):
    search(Listing(), data, trials=7, batch=3, progress=True, **RUN)
    assert "100%" in capsys.readouterr().err
