"""The network of one configuration as a file: to score with, and to train on from."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet.data import DataSet, Preprocessing
from jaxnet.errors import DataError, RunFolderError
from jaxnet.host.tensors import read_tensors
from jaxnet.sweeps.folder.identity import settings_of
from jaxnet.sweeps.results.record import NO_HISTORY, History, Outcome
from jaxnet.sweeps.stacks.prepared import PreparedData
from jaxnet.sweeps.stacks.stack import Saved, member_shape
from jaxnet.sweeps.stacks.trees import like_tree, named_leaves
from jaxnet.training.network import Network, named_by_path
from jaxnet.training.numerics import numerics
from jaxnet.training.settings import Configuration
from jaxnet.training.step import Member


def network_of(
    configuration: Configuration, data: DataSet, preprocessing: Preprocessing, member: Member
) -> Network:
    """Return the network that a member of a stack is."""
    structure = configuration.structure
    model = structure.model
    own = structure.row.hyperparameters if model is None else model.value.defaults
    return Network(
        net=replace(structure.net, uses_dropout=False),  # it is off where images are scored
        input_shape=data.input_shape,
        class_names=data.class_names,
        preprocessing=preprocessing,
        params=member.params,
        state=member.state,
        settings=settings_of(configuration),
        hyperparameters={n: v for n, v in configuration.numbers.items() if n in own},
    )


def save_trained(path: Path, network: Network, member: Member, outcome: Outcome) -> None:
    """Write the network, and beside its parameters what training needs to go on."""
    extra = named_leaves("training/optimizer_state", member.optimizer_state)
    extra["training/step"] = np.asarray(outcome.steps)
    extra["training/loss"] = np.asarray(member.loss)
    for name, series in outcome.history.until(outcome.steps).arrays().items():
        extra[f"training/history/{name}"] = series
    network.save(path, extra)


def saved_step(path: Path) -> int:
    """Return after how many updates a network was saved; 0 for a file that is not whole."""
    try:
        tensors, _ = read_tensors(path)
        return _step(tensors)
    except (DataError, KeyError, ValueError):
        return 0


def load_saved(path: Path, configuration: Configuration, data: PreparedData) -> Saved:
    """Return the network of a file as it was when its training ended."""
    tensors, _ = read_tensors(path)
    shape = member_shape(configuration, data.shapes)
    try:
        with numerics(configuration.structure.precision):
            member = Member(
                params=_tree(shape.params, tensors, "params"),
                state=_tree(shape.state, tensors, "state"),
                optimizer_state=like_tree(
                    shape.optimizer_state, tensors, "training/optimizer_state"
                ),
                diverged_at=jnp.int32(-1),
                stopped=jnp.bool(False),
                loss=jnp.asarray(tensors["training/loss"]),
            )
        history = History.from_arrays(
            {name: tensors[f"training/history/{name}"] for name in NO_HISTORY.arrays()}
        )
        step = _step(tensors)
    except (KeyError, ValueError) as error:
        raise RunFolderError(
            f"{path} does not hold what training needs to go on ({error}): remove it to train "
            f"this configuration from its beginning"
        ) from error
    return Saved(step, member, history)


def _step(tensors: Mapping[str, np.ndarray]) -> int:
    step = tensors["training/step"]
    if step.shape != () or step.dtype.kind != "i" or step < 0:
        raise ValueError(f"training/step of {step.dtype} {list(step.shape)}")
    return int(step)


def _tree(shape: Any, tensors: Mapping[str, np.ndarray], name: str) -> Any:
    """Return parameters or state, which a file names by their paths."""
    keys = [f"{name}{jax.tree_util.keystr(at)}" for at, _ in jax.tree.leaves_with_path(shape)]
    stored = [tensors[path] for path in named_by_path({name: shape})]
    return like_tree(shape, dict(zip(keys, stored, strict=True)), name)
