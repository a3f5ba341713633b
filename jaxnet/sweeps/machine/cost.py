"""What a network costs: the work of a step, and memory."""

import itertools
import math
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp

from jaxnet.host.memory import host_memory
from jaxnet.kernels.form import current_form
from jaxnet.training.blocks import block_of, blocks_of
from jaxnet.training.learner import Hyperparameters, build_model
from jaxnet.training.numerics import numerics, parameter_dtype
from jaxnet.training.program import Counts, Program
from jaxnet.training.settings import Shapes, Structure
from jaxnet.training.step import DeviceData


def layer_sizes(structure: Structure, shapes: Shapes) -> list[tuple[int, int]]:
    """Return (inputs, outputs) of each affine layer."""
    return list(itertools.pairwise([shapes.features, *structure.hidden, shapes.classes]))


def step_flops(structure: Structure, shapes: Shapes) -> float:
    """Return the floating-point operations in the matrix products of one network's step.

    2·batch·inputs·outputs each for x·W, xᵀ·dout and dout·Wᵀ; the first layer has no use for the
    last one. Of what is no chain of layers, what the compiler counts in the whole step.
    """
    if not structure.row.is_chain:
        return _counted_flops(Program(structure, shapes))
    products = [6 * inputs * outputs for inputs, outputs in layer_sizes(structure, shapes)]
    return structure.batch_size * (sum(products) - products[0] / 3)


def program_flops(program: Program) -> float:
    """Return the same for all networks of a program, whole or in blocks."""
    structure, shapes, layout = program.structure, program.shapes, program.layout
    if layout.blocks:
        return layout.blocks * step_flops(block_of(structure), shapes)
    return layout.size * step_flops(structure, shapes)


def estimated_bytes(program: Program) -> int:
    """Return `network_bytes`, or twice what forward leaves for backward, of what is no chain."""
    if program.structure.model is None and not program.structure.row.is_chain:
        return _forward_bytes(program.structure, program.shapes)
    return network_bytes(program)


def network_bytes(program: Program) -> int:
    """Return an estimate from above of the memory that one network in training takes.

    Weights, gradients, optimizer state and the next weights; of each activation its value, its
    gradient and what normalization and dropout keep, for a batch or an evaluation.
    """
    structure, sizes = program.structure, layer_sizes(program.structure, program.shapes)
    parameters = sum((inputs + 1) * outputs for inputs, outputs in sizes)
    activations = sum(outputs for _, outputs in sizes) * max(structure.batch_size, 500)
    if program.layout.blocks:  # which are there beside the networks that they are cut from
        parameters *= 2
    return (8 if structure.precision == "float64" else 4) * (
        _arrays_per_weight(structure) * parameters + 6 * activations
    )


def _arrays_per_weight(structure: Structure) -> int:
    """Return how many numbers a weight takes: itself, its gradient, change, next value and state.

    Room for two arrays of state is always left: a user's rule does not tell how many it has.
    """
    return 4 + max(2, structure.rule.state_arrays if structure.rule is not None else 0)


@lru_cache(maxsize=1024)
def _forward_bytes(structure: Structure, shapes: Shapes) -> int:
    rows = max(structure.batch_size, current_form().image_rows)
    with numerics(structure.precision):
        dtype = parameter_dtype(structure)

        def passes(hyperparameters, key, x):
            model = build_model(structure, hyperparameters, shapes)
            params, state, _ = model.init(key, shapes.input)
            left = model.forward(params, state, x, key=key, train=True)
            return jax.tree.leaves(params), jax.tree.leaves(left)

        x = _array((rows, *shapes.input), dtype)
        given = Hyperparameters.shapes(structure)
        params, left = jax.eval_shape(passes, given, jax.random.key(0), x)
    return sum(
        share * math.prod(leaf.shape) * leaf.dtype.itemsize
        for share, tree in ((_arrays_per_weight(structure), params), (2, left))
        for leaf in tree
    )


def compiled_bytes(program: Program) -> tuple[int, int]:
    """Return (bytes whatever the number of networks, bytes per network) of a training program.

    From the compiler's own analysis of the program at two sizes: its arguments but the data, its
    result where that does not take their place, and its temporaries.
    """
    cut = min(program.layout.blocks, 1)
    return _compiled_bytes(program.with_layout(size=1, devices=1, blocks=cut))


@lru_cache(maxsize=1024)
def _compiled_bytes(program: Program) -> tuple[int, int]:
    sizes = (2, 4)
    small, large = (_analysed(program.with_layout(size=size)) for size in sizes)
    each = max(1, math.ceil((large - small) / (sizes[1] - sizes[0])))
    return max(0, small - sizes[0] * each), each


def _analysed(program: Program) -> int:
    if program.layout.blocks:  # as many as there may be
        blocks = program.layout.size * blocks_of(program.structure.hidden)
        program = program.with_layout(blocks=blocks)
    lowered, data = _lowered(program)
    found = lowered.compile().memory_analysis()
    if found is None:  # a backend that does not tell
        return program.layout.size * estimated_bytes(program)
    rows = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(data))
    kept = found.output_size_in_bytes - found.alias_size_in_bytes
    return found.argument_size_in_bytes - rows + kept + found.temp_size_in_bytes


@lru_cache(maxsize=1024)
def _counted_flops(program: Program) -> float:
    lowered, _ = _lowered(program)
    return float((lowered.cost_analysis() or {}).get("flops", 0.0))


def _lowered(program: Program) -> tuple[Any, DeviceData]:
    """Return the training program, not compiled, and the data it is for."""
    structure, layout = program.structure, program.layout
    rows, features = 1000, program.shapes.features  # the rows are only gathered from
    with numerics(structure.precision):
        dtype = parameter_dtype(structure)
        given = Hyperparameters.shapes(structure, padded=layout.padded, networks=(layout.size,))
        seed = _array(() if layout.shared else (layout.size,), jnp.uint32)
        data = DeviceData(
            _array((rows, features), jnp.uint8),
            _array((rows,), jnp.int32),
            _array((features,), dtype),
            _array((features,), dtype),
        )
        state = jax.eval_shape(program.init, given, seed)
        count = _array((), jnp.int32)
        return program.advance.lower(state, given, seed, data, Counts(count, count, count)), data


def _array(shape: tuple[int, ...], dtype: Any) -> Any:
    return jax.ShapeDtypeStruct(shape, dtype)


def memory_budget() -> float:
    """Return the bytes a chunk may take: half an accelerator's memory, a quarter of the host's."""
    statistics = jax.local_devices()[0].memory_stats() or {}
    if "bytes_limit" in statistics:
        return statistics["bytes_limit"] / 2
    return host_memory() / 4
