"""The public entry points and what each is given wrongly; `tests/test_manners.py` runs it.

A program of its own: under the tests, annotations are checked before jaxnet's own checks have a
look. `python -W error tests/manners.py [NAME]` prints, line by line, {function: [what is wrong]}.
"""

import contextlib
import fractions
import inspect
import io
import itertools
import json
import os
import sys
import tempfile
import traceback
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import jaxnet
from jaxnet import data, layers, losses, optimizers, plots, schedules, sweeps, verbs
from jaxnet.errors import JaxnetError
from jaxnet.training.settings import configure, setting_names

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")

WRONG = {
    "None": lambda: None,
    "a text": lambda: "0.1",
    "an empty text": lambda: "",
    "bytes": lambda: b"adam",
    "a path with ~": lambda: "~/nowhere/at/all",
    "a path with ~ of nobody": lambda: Path("~no-such-user/x"),
    "a path with a zero": lambda: "a\0b",
    "a long name": lambda: "x" * 3000,
    "True": lambda: True,
    "zero": lambda: 0,
    "one": lambda: 1,
    "negative": lambda: -1,
    "a fraction below 0": lambda: -0.5,
    "a whole float": lambda: 2.0,
    "NaN": lambda: float("nan"),
    "infinity": lambda: float("inf"),
    "minus infinity": lambda: -float("inf"),
    "huge": lambda: 10**30,
    "beyond every float": lambda: 10**5000,
    "a huge float": lambda: 1e308,
    "a tiny float": lambda: 5e-324,
    "complex": lambda: 1j,
    "a Fraction": lambda: fractions.Fraction(1, 3),
    "a tuple": lambda: (1, 2),
    "an empty tuple": lambda: (),
    "an empty list": lambda: [],
    "a list of None": lambda: [None],
    "a list of texts": lambda: ["a", "b"],
    "a ragged list": lambda: [[1], [2, 3]],
    "a dict": lambda: {"a": 1},
    "an empty dict": lambda: {},
    "a set": lambda: {1, 2},
    "a generator": lambda: (n for n in (1, 2)),
    "a range": lambda: range(3),
    "an object": lambda: object(),
    "a class": lambda: int,
    "a function": lambda: lambda *_, **__: None,
    "a NumPy integer": lambda: np.int64(3),
    "a NumPy float": lambda: np.float32(0.5),
    "a NumPy NaN": lambda: np.float64("nan"),
    "a NumPy boolean": lambda: np.bool_(True),
    "a NumPy text": lambda: np.str_("adam"),
    "a date": lambda: np.datetime64("2020-01-01"),
    "an array of no axes": lambda: np.array(2),
    "an array": lambda: np.arange(3.0),
    "an empty array": lambda: np.zeros((0, 3)),
    "an array of objects": lambda: np.array([None, "x"], dtype=object),
    "an array of texts": lambda: np.array(["a", "b"]),
    "an array of NaN": lambda: np.full((3, 4), np.nan),
    "a big-endian number": lambda: np.array(2, ">i4"),
    "a big-endian array": lambda: np.arange(12, dtype=">f4").reshape(3, 4),
    "big-endian integers": lambda: np.arange(3, dtype=">i8"),
    "a JAX integer": lambda: jnp.int32(3),
    "a JAX float": lambda: jnp.float32(0.5),
    "a JAX array": lambda: jnp.arange(3.0),
    "a JAX key": lambda: jax.random.key(0),
}

PIXELS = np.arange(12 * 4, dtype=np.uint8).reshape(12, 2, 2, 1)
LABELS = np.arange(12, dtype=np.int32) % 3
TINY = data.DataSet.from_arrays(PIXELS, LABELS, PIXELS[:4], LABELS[:4])
SHORT = {"steps": 1, "hidden": [2], "batch_size": 4, "evaluations": 1}
KEY = jax.random.key(0)
X = jnp.asarray(np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4))
IMAGES = jnp.asarray(np.linspace(-1, 1, 2 * 4 * 4 * 2, dtype=np.float32).reshape(2, 4, 4, 2))
ONES, ZEROS = jnp.ones(4), jnp.zeros(4)
SPACE = sweeps.random_draws(2, learning_rate=sweeps.log_uniform(1e-3, 1e-1))
RESULT = jaxnet.train(TINY, **SHORT, keep=None)
NETWORK = RESULT.network
NET = jaxnet.two_layer(3, 3)
PARAMS, STATE, _ = NET.init(KEY, (4,))
COLUMNS = {"x_name": "a", "x_values": [1, 2], "y_name": "b", "y_values": [1, 1]}
OUTCOMES = {"accuracy": [0.5, 0.25], "diverged": [False, True]}


def init(key, width=2):
    return {"w": jnp.ones((4, 3)) * width}


def loss(params, x, labels, key, slope=0.5):
    scores = x.reshape(len(x), -1) @ params["w"] * slope
    return scores.mean(), scores


MODEL = jaxnet.Model(init, loss)
SAVED = Path(tempfile.mkdtemp()) / "net.safetensors"
NETWORK.save(SAVED)
CUSTOM = jaxnet.train(TINY, steps=1, batch_size=4, evaluations=1, model=MODEL).network
CUSTOM.save(SAVED.with_name("custom.safetensors"))
FOLDER = SAVED.parent / "run"
jaxnet.train(TINY, **SHORT, out=FOLDER)


def configuration_with(name):
    """`configure` as a function of one setting, with what that one needs beside it."""
    needs = {
        "preprocessing=pca": ("components", "variance"),
        "optimizer=momentum": ("momentum",),
        "optimizer=adamw": ("beta1", "beta2", "eps", "weight_decay"),
        "optimizer=rmsprop": ("rms_decay",),
        "schedule=step": ("decay", "epochs_per_drop"),
        "schedule=one_cycle": ("warmup_fraction", "initial_fraction", "final_fraction"),
        "architecture=inception_resnet": ("flip", "shift"),
    }
    beside = dict(need.split("=") for need, names in needs.items() if name in names)

    def call(value):
        return configure(**{**beside, name: value})

    call.__signature__ = inspect.Signature(
        [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD)]
    )
    return lambda **given: call(given[name]), call.__signature__


def pair(forward, **given):
    """Rows of a forward function and of its backward one, which takes what that returned."""
    name = forward.__name__.removesuffix("_forward")
    out, cache = forward(**given)[:2]
    backward = getattr(layers, f"{name}_backward")
    return {
        f"layers.{forward.__name__}": (forward, given),
        f"layers.{name}_backward": (backward, {"dout": jnp.ones_like(out), "cache": cache}),
    }


def table():
    """Return {name: (function, valid arguments)} of every public entry point."""
    short = {"space": [{}], "data": TINY, "steps": 1}
    histories = {"one": RESULT.rows[0].outcome.history}
    rows = {
        "sweep": (lambda **given: jaxnet.sweep(**{**SHORT, **given}), short, jaxnet.sweep),
        "plan": (lambda **given: jaxnet.plan(**{**PLAN, **given}), short, jaxnet.plan),
        "train": (lambda **given: jaxnet.train(**{**SHORT, **given}), {"data": TINY}, jaxnet.train),
        "search": (
            lambda sampler=None, **given: jaxnet.search(
                jaxnet.RandomSearch(SPACE) if sampler is None else sampler, **{**SHORT, **given}
            ),
            {"sampler": jaxnet.RandomSearch(SPACE), "data": TINY, "trials": 1, "batch": 1},
            jaxnet.search,
        ),
        "RandomSearch": (jaxnet.RandomSearch, {"space": SPACE}),
        "Model": (jaxnet.Model, {"init": init, "loss": loss}),
        "Halving": (jaxnet.Halving, {}),
        "Patience": (jaxnet.Patience, {"evaluations": 4}),
        "Halving.rungs": (jaxnet.Halving().rungs, {"steps": 100, "configurations": 9}),
        "sweeps.Ray": (sweeps.Ray, {}),
        "sweeps.Job": (sweeps.Job, {"space": SPACE}),
        "sweeps.job_from_dict": (
            sweeps.job_from_dict,
            {"spec": {"grid": {"learning_rate": [0.1]}}},
        ),
        "sweeps.read_job": (sweeps.read_job, {"path": "no.toml"}),
        "sweeps.find_preset": (sweeps.find_preset, {"name": "default"}),
        "sweeps.plan_job": (
            sweeps.plan_job,
            {"job": sweeps.Job(sweeps.grid(hidden=[[2]])), "data": TINY},
        ),
        "verbs.run_job": (
            verbs.run_job,
            {
                "job": sweeps.Job(sweeps.grid(hidden=[[2]]), steps=1, evaluations=1),
                "data": TINY,
            },
        ),
        "grid": (lambda axis: jaxnet.grid(axis=axis), {"axis": [1]}),
        "random_draws": (
            lambda count=1, axis=1: jaxnet.random_draws(count, axis=axis).settings(0),
            {},
        ),
        **{
            name: (
                lambda kind=kind, **given: kind(**given).draw(np.random.default_rng(0)),
                ends,
                kind,
            )
            for name, kind, ends in (
                ("uniform", jaxnet.uniform, {"low": 1, "high": 2}),
                ("log_uniform", jaxnet.log_uniform, {"low": 1, "high": 2}),
                ("normal", jaxnet.normal, {"mean": 1, "deviation": 2}),
                ("integers", jaxnet.integers, {"low": 1, "high": 2}),
                ("log_integers", jaxnet.log_integers, {"low": 1, "high": 2}),
            )
        },
        "choice": (jaxnet.choice, {}),
        "SweepResult.network_of": (RESULT.network_of, {"id": 0}),
        "Network.scores": (NETWORK.scores, {"images": PIXELS}),
        "Network.predict": (NETWORK.predict, {"images": PIXELS}),
        "Network.accuracy": (NETWORK.accuracy, {"examples": data.Examples(PIXELS, LABELS)}),
        "Network.save": (NETWORK.save, {"path": "net.safetensors"}),
        "Network.load": (jaxnet.Network.load, {"path": SAVED}),
        "Custom.scores": (CUSTOM.scores, {"images": PIXELS}),
        "Custom.predict": (CUSTOM.predict, {"images": PIXELS}),
        "Custom.accuracy": (
            CUSTOM.accuracy,
            {"examples": data.Examples(PIXELS, LABELS)},
        ),
        "Custom.save": (CUSTOM.save, {"path": "net.safetensors"}),
        "Network.load, of a model": (
            jaxnet.Network.load,
            {"path": SAVED.with_name("custom.safetensors"), "model": MODEL},
        ),
        "write_report": (jaxnet.write_report, {"runs": [FOLDER], "out": "report.html"}),
        "diagnose": (jaxnet.diagnose, {"run": RESULT}),
        "check_grads": (jaxnet.check_grads, CHECKED),
        "assert_grads": (jaxnet.assert_grads, CHECKED),
        "fully_connected": (
            lambda **given: jaxnet.fully_connected(**given).init(KEY, (4,)),
            {"hidden": [2], "classes": 2},
            jaxnet.fully_connected,
        ),
        "two_layer": (
            lambda **given: jaxnet.two_layer(**given).init(KEY, (4,)),
            {"hidden": 2, "classes": 2},
            jaxnet.two_layer,
        ),
        "inception_resnet": (
            lambda **given: jax.eval_shape(
                lambda: jaxnet.inception_resnet(**given).init(KEY, (4, 4, 1))[:2]
            ),
            {"classes": 2},
            jaxnet.inception_resnet,
        ),
        "loss_and_grad": (
            jaxnet.loss_and_grad,
            {"model": NET, "params": PARAMS, "state": STATE, "images": X, "labels": LABELS[:3]},
        ),
        "serial": (jaxnet.serial, {}),
        "concat": (jaxnet.concat, {}),
        "residual": (jaxnet.residual, {"branch": NET}),
        "as_function": (jaxnet.as_function, {"layer": NET}),
        "as_custom_vjp": (jaxnet.as_custom_vjp, {"forward": init, "backward": init}),
        "data.DataSet": (
            data.DataSet,
            {name: getattr(TINY, name) for name in TINY.__dataclass_fields__},
        ),
        "data.DataSet.from_arrays": (
            data.DataSet.from_arrays,
            {
                **{"images": PIXELS, "labels": LABELS},
                **{"test_images": PIXELS[:4], "test_labels": LABELS[:4]},
            },
        ),
        "data.DataSet.split": (TINY.split, {"validation": 2}),
        "data.load": (data.load, {"name": "fashion-mnist-mini"}),
        "data.describe": (data.describe, {"name": "fashion-mnist-mini"}),
        "data.available": (data.available, {}),
        "data.fetch": (data.fetch, {"name": "fashion-mnist-mini"}),
        "data.fit": (data.fit, {"images": PIXELS, "method": "zca"}),
        "data.fit, pca": (
            lambda **given: data.fit(PIXELS, "pca", **given),
            {},
            lambda components=None, variance=None: None,
        ),
        "data.Preprocessing.apply": (data.fit(PIXELS, "standardize").apply, {"images": PIXELS}),
        "losses.softmax_cross_entropy": (
            losses.softmax_cross_entropy,
            {"scores": X, "labels": LABELS[:3]},
        ),
        "losses.multiclass_svm": (losses.multiclass_svm, {"scores": X, "labels": LABELS[:3]}),
        "losses.squared_error": (losses.squared_error, {"scores": X, "labels": LABELS[:3]}),
        "losses.chance_loss": (losses.chance_loss, {"loss": "softmax", "classes": 3}),
        "losses.check_labels": (losses.check_labels, {"labels": LABELS, "classes": 3}),
        "losses.l2_penalty": (losses.l2_penalty, {"params": PARAMS, "l2": 0.1}),
        "losses.add_l2": (losses.add_l2, {"grads": PARAMS, "params": PARAMS, "l2": 0.1}),
        "optimizers.clip_by_norm": (
            optimizers.clip_by_norm,
            {"gradients": PARAMS, "norm": 1.0},
        ),
        **{
            f"optimizers.{name}": (
                stepped(getattr(optimizers, name)),
                {"learning_rate": 0.1},
                getattr(optimizers, name),
            )
            for name in optimizers.OPTIMIZERS
        },
        **{
            f"schedules.{name}": (
                asked(getattr(schedules, name)),
                LENGTHS[name],
                getattr(schedules, name),
            )
            for name in schedules.SCHEDULES
        },
        "schedules.warmup": (
            asked(schedules.warmup),
            {"schedule": schedules.constant(0.1), "warmup_steps": 3},
            schedules.warmup,
        ),
        "schedules.find_schedule": (schedules.find_schedule, {"name": "step"}),
        "plots.accuracy_map": (plots.accuracy_map, {**COLUMNS, **OUTCOMES}),
        "plots.accuracy_over_pairs": (
            plots.accuracy_over_pairs,
            {"columns": {"a": [1, 2], "b": [1, 2]}, **OUTCOMES},
        ),
        "plots.activation_histograms": (
            plots.activation_histograms,
            {"activations": [np.ones((3, 2))]},
        ),
        "plots.optimizer_comparison": (plots.optimizer_comparison, {"runs": histories}),
        "plots.learning_curves": (
            plots.learning_curves,
            {
                **{"steps": np.arange(3), "loss": np.ones(3), "evaluated_steps": np.arange(2)},
                **{"train_accuracy": np.ones(2), "val_accuracy": np.ones(2)},
            },
        ),
        "plots.diverging_map": (
            plots.diverging_map,
            {**COLUMNS, "diverged": [False, True], "steps": [1, 2]},
        ),
        "plots.learning_fan": (
            plots.learning_fan,
            {
                "steps": np.arange(3),
                "values": np.ones((2, 3)),
                "diverged": np.array([False, True]),
            },
        ),
        "plots.error_ladder": (
            plots.error_ladder,
            {"f": lambda x: (x * x).sum(), "x": np.ones(2), "derivative": 2.0},
        ),
        "plots.parallel_coordinates": (
            plots.parallel_coordinates,
            {"columns": {"a": [1, 2], "b": [1, 2]}, **OUTCOMES},
        ),
        "plots.replicate_means": (
            plots.replicate_means,
            {"name": "a", "values": [1, 2], **OUTCOMES},
        ),
        "plots.weight_images": (
            plots.weight_images,
            {"weights": np.ones((4, 2)), "image_shape": (2, 2, 1)},
        ),
        "plots.winner_reliability": (
            plots.winner_reliability,
            {"settings": RESULT.replicates, "names": ["learning_rate"]},
        ),
        **pair(layers.affine_forward, x=X, w=jnp.ones((4, 2)), b=jnp.ones(2)),
        **pair(
            layers.batchnorm_forward,
            **{"x": X, "scale": ONES, "shift": ZEROS, "running_mean": ZEROS},
            **{"running_variance": ONES, "train": True},
        ),
        **pair(layers.layernorm_forward, x=X, scale=ONES, shift=ZEROS),
        **pair(layers.dropout_forward, x=X, rate=0.5, key=KEY, train=True),
        **pair(layers.flatten_forward, x=IMAGES),
        **pair(layers.first_units_forward, x=X, width=2),
        **pair(layers.conv2d_forward, x=IMAGES, w=jnp.ones((3, 3, 2, 2)), b=jnp.ones(2)),
        **pair(layers.max_pool_forward, x=IMAGES),
        **pair(layers.average_pool_forward, x=IMAGES),
        **pair(layers.global_average_pool_forward, x=IMAGES),
        **pair(
            layers.spatial_batchnorm_forward,
            **{"x": IMAGES, "scale": ONES[:2], "shift": ZEROS[:2], "running_mean": ZEROS[:2]},
            **{"running_variance": ONES[:2], "train": True},
        ),
        **pair(layers.group_norm_forward, x=IMAGES, scale=ONES[:2], shift=ZEROS[:2], groups=1),
        **pair(layers.relu_forward, x=X),
        **pair(layers.leaky_relu_forward, x=X),
        **pair(layers.tanh_forward, x=X),
        **pair(layers.sigmoid_forward, x=X),
        **pair(layers.gelu_forward, x=X),
        **{
            f"layers.{name}": (started(getattr(layers, name), shape), given, getattr(layers, name))
            for name, given, shape in (
                ("affine", {"outputs": 2}, (4,)),
                ("batchnorm", {}, (4,)),
                ("layernorm", {}, (4,)),
                ("dropout", {"rate": 0.5}, (4,)),
                ("flatten", {}, (4, 4, 2)),
                ("first_units", {"width": 2}, (4,)),
                ("conv2d", {"outputs": 2, "kernel": 3}, (4, 4, 2)),
                ("max_pool", {}, (4, 4, 2)),
                ("average_pool", {}, (4, 4, 2)),
                ("global_average_pool", {}, (4, 4, 2)),
                ("spatial_batchnorm", {}, (4, 4, 2)),
                ("group_norm", {"groups": 1}, (4, 4, 2)),
                ("activation", {"name": "relu"}, (4,)),
                ("relu", {}, (4,)),
                ("leaky_relu", {}, (4,)),
                ("tanh", {}, (4,)),
                ("sigmoid", {}, (4,)),
                ("gelu", {}, (4,)),
            )
        },
    }
    rows |= {
        f"configure, {name}": (*configuration_with(name)[:1], {}, configuration_with(name)[1])
        for name in setting_names()
    }
    return rows


PLAN = {"hidden": [2], "batch_size": 4}
CHECKED = {"f": lambda x: (x * x).sum(), "args": (np.ones(2),), "directions": 1, "samples": 1}
LENGTHS = {
    "constant": {"learning_rate": 0.1},
    "exponential": {"learning_rate": 0.1, "steps_per_epoch": 2},
    "step": {"learning_rate": 0.1, "steps_per_epoch": 2},
    "cosine": {"learning_rate": 0.1, "total_steps": 4},
    "one_cycle": {"learning_rate": 0.1, "total_steps": 4},
}


def drawn(distribution):
    return lambda **given: distribution(**given).draw(np.random.default_rng(0))


def stepped(factory):
    """An optimizer's factory as a function that takes a step, too."""

    def call(**given):
        rule, params = factory(**given), {"w": jnp.ones(2)}
        return rule.update(params, rule.init(params), params)

    return call


def asked(factory):
    return lambda **given: factory(**given)(jnp.int32(1))


def started(factory, shape):
    """A layer's factory as a function that initializes and runs it, too."""

    def call(**given):
        layer = factory(**given)
        params, state, _ = layer.init(KEY, shape)
        return layer.forward(params, state, jnp.ones((2, *shape)), key=KEY, train=True)

    return call


# What is left out, each with the reason: (function or *, parameter, label or *).
LEFT_OUT = {
    ("*", "cache", "*"): "what forward returned: of no form of its own",
    ("*", "dout", "*"): "of the shape of what forward returned, which the cache does not tell",
    ("*", "callback", "a class"): "an error of the user's own function is the user's",
    ("optimizers.adamw", "mask", "a class"): "the same",
    ("plots.error_ladder", "f", "a class"): "the same",
    ("optimizers.adamw", "mask", "a function"): "the same: it returns no tree",
    ("loss_and_grad", "params", "a dict"): "the names in it are those of the model's init",
    ("loss_and_grad", "params", "an empty dict"): "the same",
}


def wrongs(name, call, given, described):
    """Yield what a function does with wrong arguments that it should not."""
    of_setting = isinstance(described, inspect.Signature)
    signature = described if of_setting else inspect.signature(described)
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            continue
        for label, make in WRONG.items():
            reasons = itertools.product(("*", name), [parameter.name], ("*", label))
            if not LEFT_OUT.keys().isdisjoint(reasons):
                continue
            case = f"{parameter.name} = {label}"
            try:
                if parameter.kind is parameter.VAR_POSITIONAL:
                    call(make(), **given)
                else:
                    call(**{**given, parameter.name: make()})
            except JaxnetError as error:
                text = str(error)
                if "\n" in text or " at 0x" in text or not 0 < len(text) < 700:
                    yield f"{case}: not one line: {text!r}"
            except Exception as error:
                at = traceback.extract_tb(error.__traceback__)[-1]
                what = f"{type(error).__name__}: {str(error)[:200]}"
                yield f"{case}: {what} ({at.filename}:{at.lineno})"


def main(names):
    rows = table()
    for name in names or rows:
        call, given, *described = rows[name]
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            found = list(wrongs(name, call, given, *(described or [call])))
        print(json.dumps({name: found}), flush=True)


if __name__ == "__main__":
    os.environ["HOME"] = tempfile.mkdtemp()
    os.chdir(tempfile.mkdtemp())
    main(sys.argv[1:])
