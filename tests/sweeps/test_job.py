"""Jobs as users write them: the file of the issue, and everything that may be wrong with one."""

import json

import pytest

from jaxnet.errors import ConfigurationError
from jaxnet.sweeps import Halving, Job, grid, job_from_dict, read_job
from jaxnet.sweeps.space.space import Grid, Listed, Random
from jaxnet.sweeps.space.stopping import Patience

ISSUE = """
data = "fashion-mnist-mini"        # the embedded images; or "fashion-mnist", "cifar10"
steps = 300
seed = 3
[grid]                             # or [random] with a count, or [[configuration]]
learning_rate = [1e-1, 1e-2]
l2 = [1e-1, 1e-3]
batch_size = [200, 400]
hidden = [[80], [160, 80]]
"""


@pytest.fixture
def read(tmp_path):
    def read(text, name="job.toml"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_job(path)

    return read


def test_the_file_of_the_issue(read):
    job = read(ISSUE)
    axes = {
        "learning_rate": [1e-1, 1e-2],
        "l2": [1e-1, 1e-3],
        "batch_size": [200, 400],
        "hidden": [[80], [160, 80]],
    }
    assert job == Job(Grid(axes), "fashion-mnist-mini", 300, 3, None, None, {})
    assert list(job.space.axes) == list(axes)
    configurations = job.configurations()
    assert len(configurations) == 16
    assert {c.seed for c in configurations} == {3}
    first, last = configurations[0], configurations[-1]
    assert (first.numbers["learning_rate"], first.numbers["l2"]) == (0.1, 0.1)
    assert (first.structure.batch_size, first.structure.hidden) == (200, (80,))
    assert (last.numbers["learning_rate"], last.numbers["l2"]) == (0.01, 0.001)
    assert (last.structure.batch_size, last.structure.hidden) == (400, (160, 80))


def test_all_keys(read):
    job = read(
        """
        data = "cifar10"
        steps = 7
        seed = 4
        validation = 11
        train = 12
        [settings]
        optimizer = "adam"
        beta1 = 0.5
        [random]
        count = 2
        learning_rate = {log_uniform = [1e-4, 1e-1]}
        hidden = {choice = [[8], [8, 4]]}
        norm = "batch"
        """
    )
    assert (job.data, job.steps, job.seed) == ("cifar10", 7, 4)
    assert (job.validation, job.train) == (11, 12)
    assert job.settings == {"optimizer": "adam", "beta1": 0.5}
    assert isinstance(job.space, Random)
    for configuration in job.configurations():
        assert configuration.seed == 4
        assert configuration.structure.optimizer == "adam"
        assert configuration.structure.norm == "batch"
        assert configuration.numbers["beta1"] == 0.5
        assert 1e-4 <= configuration.numbers["learning_rate"] < 1e-1


def test_configurations_one_by_one(read):
    text = "[[configuration]]\nl2 = 1\nseed = 9\n[[configuration]]\nhidden = []"
    job = read("[settings]\nl2 = 2\n" + text)
    assert isinstance(job.space, Listed)
    one, other = job.configurations()
    assert (one.numbers["l2"], one.seed) == (1, 9)  # its own before the common one
    assert (other.numbers["l2"], other.seed, other.structure.hidden) == (2, 0, ())


def test_the_seed_of_the_job_draws_the_space():
    space = {"random": {"count": 4, "l2": {"uniform": [0, 1]}}}
    draws = [
        [c.numbers["l2"] for c in job_from_dict({"seed": seed, **space}).configurations()]
        for seed in (1, 1, 2)
    ]
    assert draws[0] == draws[1] != draws[2]


def test_a_seed_axis_wins_over_the_seed_of_the_job():
    job = Job(grid(seed=[5, 6]), seed=1)
    assert [c.seed for c in job.configurations()] == [5, 6]


@pytest.mark.parametrize(
    ("wrong", "near"),
    [
        ("step", "steps"),
        ("sede", "seed"),
        ("girds", "grid"),
        ("seting", "settings"),
        ("dta", "data"),
    ],
)
def test_an_unknown_key_names_the_near_one_and_the_file(read, wrong, near):
    with pytest.raises(
        ConfigurationError, match=f"job.toml: unknown key '{wrong}': did you mean '{near}'"
    ):
        read(f"{wrong} = 3\n[grid]\nl2 = [0]")


@pytest.mark.usefixtures("as_a_user")
@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("[grid]\nl2 = [0]\n[[configuration]]\nl2 = 0", r"expected one of \[grid\]"),
        ("steps = 3", r"expected one of \[grid\].* got none"),
        ("steps = '3'\n[grid]\nl2 = [0]", "steps: expected a whole number from 1 up, got '3'"),
        ("steps = 0\n[grid]\nl2 = [0]", "steps: expected a whole number from 1 up, got 0"),
        ("steps = 2.5\n[grid]\nl2 = [0]", "steps: expected a whole number from 1 up, got 2.5"),
        ("steps = true\n[grid]\nl2 = [0]", "steps: expected a whole number from 1 up, got True"),
        ("seed = -1\n[grid]\nl2 = [0]", "seed: expected a whole number from 0 up, got -1"),
        ("validation = 0\n[grid]\nl2 = [0]", "validation: expected a whole number from 1 up"),
        ("train = 0\n[grid]\nl2 = [0]", "train: expected a whole number from 1 up"),
        ("train = [3]\n[grid]\nl2 = [0]", r"train: expected a whole number from 1 up, got \[3\]"),
        ("data = 3\n[grid]\nl2 = [0]", "data: expected the name of a data set, got 3"),
        ("settings = 3\n[grid]\nl2 = [0]", r"write \[settings\] as a table, got 3"),
        ("[grid]\nl2 = []", "the grid is empty: axis l2"),
        ("[random]\nl2 = 3", r"\[random\] needs a count"),
        (
            "replicates = 0\n[grid]\nl2 = [0]",
            "replicates: expected a whole number from 1 up",
        ),
        (
            "stop = {patience = 0}\n[grid]\nl2 = [0]",
            "patience: evaluations: expected a whole number",
        ),
        ("stop = {patence = 2}\n[grid]\nl2 = [0]", "unknown stopping rule 'patence': did you mean"),
        ("stop = 3\n[grid]\nl2 = [0]", "stop: expected one rule, .* got 3. Known: patience"),
        ("stop = {}\n[grid]\nl2 = [0]", "stop: expected one rule"),
        ("stop = {patience = {}}\n[grid]\nl2 = [0]", "stop: patience needs evaluations"),
        ("[stop.patience]\nsteps = 2\n[grid]\nl2 = [0]", "unknown key of stop.patience 'steps'"),
        ("history = 0.5\n[grid]\nl2 = [0]", "history: expected a whole number from 1 up, got 0.5"),
        ("evaluations = 0\n[grid]\nl2 = [0]", "evaluations: expected a whole number from 1 up"),
        ("halving = 1\n[grid]\nl2 = [0]", "halving: eta: expected a number above 1, got 1"),
        ("[halving]\neta = 'x'\n[grid]\nl2 = [0]", "halving: eta: expected a number above 1"),
        ("[halving]\nfrist = 3\n[grid]\nl2 = [0]", "halving: unknown key 'frist'"),
        ("[halving]\nfirst = 0\n[grid]\nl2 = [0]", "halving: first: expected a whole number"),
        ("replicates = 2\n[grid]\nseed = [0]", "seed is an axis or a setting too: remove one"),
        ("replicates = 2\n[settings]\nseed = 1\n[grid]\nl2 = [0]", "seed is an axis or a setting"),
        ("job = 3", "expected a table|unknown key 'job'|write"),
    ],
)
def test_a_job_that_cannot_be_says_why_and_in_which_file(read, text, error):
    with pytest.raises(ConfigurationError, match=rf"job\.toml: .*{error}"):
        read(text)


def test_more_steps_than_a_step_counter_holds_are_refused(read):
    """The step is an int32 on the device."""
    with pytest.raises(ConfigurationError, match="steps: expected"):
        read("steps = 3_000_000_000\n[grid]\nl2 = [0]")


def test_how_to_judge_and_to_end_runs(read):
    job = read(
        """
        replicates = 3
        halving = 4
        stop = {patience = 5}
        evaluations = 6
        history = 7
        [grid]
        l2 = [0, 1]
        """
    )
    assert job.halving == Halving(4)
    assert (job.replicates, job.evaluations, job.history) == (3, 6, 7)
    assert job.stop == Patience(5)
    assert [(c.numbers["l2"], c.seed) for c in job.configurations()] == [
        (l2, seed) for l2 in (0, 1) for seed in (0, 1, 2)
    ]
    assert job.units() == [(0, 1, 2), (3, 4, 5)]


def test_a_halving_in_parts(read):
    job = read("[halving]\neta = 2\nfirst = 10\nbrackets = 3\n[grid]\nl2 = [0]")
    assert job.halving == Halving(2, first=10, brackets=3)


def test_replicates_beside_a_configuration_with_a_seed(read):
    job = read("replicates = 2\n[[configuration]]\nseed = 3")
    with pytest.raises(ConfigurationError, match="replicates are seeds, and a configuration sets"):
        job.configurations()


@pytest.mark.parametrize("text", ["steps = ", "[grid\n", "steps = 3\nsteps = 4", "a b c"])
def test_broken_toml(read, text):
    with pytest.raises(
        ConfigurationError, match=r"job\.toml is not valid toml: .*(line 1|end of document)"
    ):
        read(text)


@pytest.mark.parametrize("text", ["", "{", "{'steps': 3}"])
def test_broken_json(read, text):
    with pytest.raises(ConfigurationError, match=r"job\.json is not valid json: .*line 1"):
        read(text, "job.json")


@pytest.mark.parametrize("name", ["job", "job.txt"])
def test_a_broken_file_of_another_name_is_said_to_be_no_toml(read, name):
    with pytest.raises(
        ConfigurationError, match=f"{name} is not valid (TOML|toml): .*end of document"
    ):
        read("steps = ", name)


def test_json_that_is_no_table(read):
    with pytest.raises(ConfigurationError, match="expected a table of keys, got list"):
        read("[1]", "job.json")


def test_bytes_that_are_no_text(read):
    with pytest.raises(ConfigurationError, match=r"cannot read .*job\.toml: .*utf-8"):
        read(b"\xff\xfe\x00")


def test_a_missing_file_and_a_folder(tmp_path):
    with pytest.raises(ConfigurationError, match=r"cannot read .*none\.toml: .*No such file"):
        read_job(tmp_path / "none.toml")
    with pytest.raises(ConfigurationError, match=r"cannot read .*directory"):
        read_job(tmp_path)


JOBS = [
    Job(grid(l2=[0, 1], hidden=[[8], [8, 4]])),
    Job(Listed([{"l2": 0.5, "hidden": [3]}]), "cifar10", 7, 4, 11, 12, {"optimizer": "adam"}),
    job_from_dict({"random": {"count": 2, "l2": {"uniform": [0, 1]}, "norm": "batch"}}),
    Job(grid(l2=[0]), replicates=3, stop=Patience(4), evaluations=6, history=7),
    Job(grid(l2=[0]), halving=Halving(2, 5, 3)),
]


@pytest.mark.parametrize(
    "job",
    [*JOBS[:-1], pytest.param(JOBS[-1])],
    ids=["grid", "listed", "random", "all", "halving"],
)
def test_a_job_written_to_json_is_the_same_job(job, read):
    text = json.dumps(job.to_dict())
    assert read(text, "job.json") == job
    # And within the config.json of a run, beside what else stands there.
    config = json.dumps({"job": job.to_dict(), "versions": {"jax": "0"}, "command": ["x"]})
    assert read(config, "config.json") == job
    assert read(config, "config.json").configurations() == job.configurations()


def test_a_setting_for_all_that_is_an_axis_too():
    with pytest.raises(
        ConfigurationError, match="l2 is an axis of the space and a setting for all"
    ):
        Job(grid(l2=[0, 1]), settings={"l2": 0.5})


def test_an_error_in_a_configuration_names_it():
    with pytest.raises(ConfigurationError, match=r"^configuration 1: l2: expected a value"):
        Job(grid(l2=[0, -1])).configurations()
    with pytest.raises(ConfigurationError, match=r"^configuration 0: unknown setting 'sede'"):
        Job(grid(l2=[0, 1]), settings={"sede": 1}).configurations()
