"""A data set small enough to train on in milliseconds, and what many tests ask of a sweep."""

import contextlib
import dataclasses
import importlib
import json

import jax
import jaxtyping
import numpy as np
import pytest

from jaxnet import configure
from jaxnet.data import DataSet
from jaxnet.sweeps.folder import checkpoint
from jaxnet.sweeps.machine import rates
from jaxnet.sweeps.machine.cost import network_bytes
from jaxnet.sweeps.planning import plan_job as planning
from jaxnet.sweeps.stacks import stack
from jaxnet.sweeps.stacks.stack import Stack
from jaxnet.training.program import Program
from jaxnet.training.settings import Shapes

plan_module = importlib.import_module(
    "jaxnet.sweeps.planning.plan"
)  # the name is that of the function

# Other batch shapes sum in another order: some ulps a step, which training amplifies slowly at
# first (style.md: 6e-7 after 100 steps, 2e-3 after 300).
ROUNDING = 1e-4


@pytest.fixture
def as_a_user():
    """Switch the checks of annotations off: what a user sees who gives a wrong type."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


# Data


def _images(generator, count, dtype):
    """Three noisy shapes on 4×3 pixels: learnt in some steps, but not without errors."""
    labels = np.arange(count) % 3
    centres = np.random.default_rng(0).uniform(60, 200, (3, 4, 3, 1))
    pixels = np.clip(centres[labels] + generator.normal(0, 45, (count, 4, 3, 1)), 0, 255)
    return (pixels.astype(np.uint8) if dtype == "uint8" else np.float32(pixels / 255)), labels


@pytest.fixture(scope="session")
def make_data():
    def make(dtype="uint8", seed=1, rows=150):
        generator = np.random.default_rng(seed)
        images, labels = _images(generator, rows, dtype)
        return DataSet.from_arrays(
            images, labels, *_images(generator, 77, dtype), class_names=["a", "b", "c"]
        )

    return make


@pytest.fixture(scope="session")
def data(make_data):
    return make_data()


# How a run goes


@pytest.fixture
def short_calls(monkeypatch):
    """A few steps a call of `advance`: checkpoints and Ctrl-C have many places to be."""
    monkeypatch.setattr(stack, "SECONDS_PER_CALL", 1e-9)


@pytest.fixture
def kept_each_call(monkeypatch, short_calls):
    """Store the stack in flight after every call."""
    monkeypatch.setattr(checkpoint, "INTERVAL", 0.0)


@pytest.fixture
def memory_for(monkeypatch):
    """Allow only so many networks of a structure at once."""

    def set_memory(networks, structure=None, features=12, classes=3):
        structure = structure or configure(hidden=[5], batch_size=10).structure
        each = float(network_bytes(Program(structure, Shapes((features,), classes))))
        monkeypatch.setattr(planning, "memory_budget", lambda: (networks + 0.5) * each)
        # Not what the compiler says of it, which differs between versions.
        monkeypatch.setattr(
            plan_module, "compiled_bytes", lambda program: (0, network_bytes(program))
        )

    return set_memory


@pytest.fixture
def small_programs(monkeypatch):
    """A smaller program is always worth compiling: a stack shrinks as soon as half of it ended."""
    monkeypatch.setitem(rates.NOMINAL, "cpu", (2e11, 0.0, 0.0))
    monkeypatch.setitem(rates.NOMINAL, "gpu", (2e11, 0.0, 0.0))


@dataclasses.dataclass
class Trained:
    """One call of `Stack.train`: how many networks, in how many places, from where to where."""

    networks: int
    places: int
    begin: int
    start: int
    end: int


@pytest.fixture
def trained(monkeypatch):
    """All stacks that are trained from now on."""
    seen, real = [], Stack.train

    def train(self, *arguments):
        of_networks = len(self.configurations), len(self.columns)
        seen.append(Trained(*of_networks, self.record.begin, self.step, self.record.end))
        return real(self, *arguments)

    monkeypatch.setattr(Stack, "train", train)
    return seen


@pytest.fixture
def interrupt():
    """Raise an error at the call of that number, or after it has done its work."""

    @contextlib.contextmanager
    def interrupted(owner, name, at, *, after=False, error=KeyboardInterrupt):
        real, calls = getattr(owner, name), 0

        def call(*arguments, **settings):
            nonlocal calls
            calls += 1
            if calls == at and not after:
                raise error
            result = real(*arguments, **settings)
            if calls == at and after:
                raise error
            return result

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(owner, name, call)
            with pytest.raises(error):
                yield
        assert calls >= at, f"{name} was called {calls} times only"

    return interrupted


@pytest.fixture
def compilations():
    """Count what XLA compiles from now on."""
    seen = []

    def listen(event, seconds, **more):
        if "backend_compile" in event:
            seen.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield seen
    jax.monitoring.unregister_event_duration_listener(listen)


# What comes out


def _plain(value):
    if dataclasses.is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    return [str(value.dtype), value.tolist()] if isinstance(value, np.ndarray) else value


@pytest.fixture(scope="session")
def said():
    """Everything a row or a result says, as text: NaN equals NaN, and every bit counts."""
    return lambda row: json.dumps(_plain(row))


@pytest.fixture(scope="session")
def outcomes(said):
    return lambda result: [said(row) for row in result.rows]


@pytest.fixture(scope="session")
def losses():
    return lambda row: row.outcome.history.loss


@pytest.fixture(scope="session")
def assert_close(losses):
    """Losses equal up to rounding."""
    return lambda one, other: np.testing.assert_allclose(losses(one), losses(other), rtol=ROUNDING)


@pytest.fixture(scope="session")
def assert_same_runs(assert_close):
    """Equal up to rounding: losses by `ROUNDING`, accuracies by one image at most."""

    def check(one, other, validation=37, train=113):
        assert_close(one, other)
        assert one.outcome.status == other.outcome.status
        for name, rows in (("val_accuracy", validation), ("train_accuracy", train)):
            found, expected = getattr(one.outcome, name), getattr(other.outcome, name)
            assert found == pytest.approx(expected, abs=1.01 / rows, nan_ok=True)

    return check


@pytest.fixture(scope="session")
def numpy_scores():
    """Scores by NumPy in float64, from the saved arrays alone; of relu nets without a norm."""

    def forward(network, images):
        arrays = network.preprocessing.to_arrays()
        x = images.reshape(len(images), -1).astype(np.float64) - arrays["mean"]
        x = x * arrays.get("scale", 1.0)
        for layer in range(1, len(network.net.hidden) + 2):
            weights = network.params[f"affine_{layer}"]
            x = x @ weights["w"].astype(np.float64) + weights["b"]
            x = np.maximum(x, 0) if layer <= len(network.net.hidden) else x
        return x

    return forward
