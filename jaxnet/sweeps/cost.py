"""What a network costs: the work of a step, and memory."""

import dataclasses
import itertools
import math
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp

from jaxnet.configuration import ARCHITECTURES, COMMON_NUMBERS, Structure
from jaxnet.kernels.form import current_form
from jaxnet.learner import build_model, width_name
from jaxnet.memory import host_memory
from jaxnet.numerics import numerics, parameter_dtype
from jaxnet.pieces import piece_of, pieces_of
from jaxnet.training import DeviceData, make_train

Shape = tuple[int, ...]


def layer_sizes(structure: Structure, features: int, classes: int) -> list[tuple[int, int]]:
    """Return (inputs, outputs) of each affine layer."""
    widths = [features, *structure.hidden, classes]
    return list(itertools.pairwise(widths))


def step_flops(
    structure: Structure, numbers: tuple[str, ...], input_shape: Shape, classes: int
) -> float:
    """Return the floating-point operations in the matrix products of one network's step.

    2·batch·inputs·outputs each for x·W, xᵀ·dout and dout·Wᵀ; the first layer has no use for the
    last one. Of convolutions and of a user's model, what the compiler counts in the whole step.
    """
    if structure.takes_images:
        return _counted_flops(structure, numbers, input_shape, classes)
    features = math.prod(input_shape)
    products = [
        6 * inputs * outputs for inputs, outputs in layer_sizes(structure, features, classes)
    ]
    return structure.batch_size * (sum(products) - products[0] / 3)


def stack_flops(
    structure: Structure,
    numbers: tuple[str, ...],
    input_shape: Shape,
    classes: int,
    networks: int,
) -> float:
    """Return the same of so many networks side by side, in pieces or not."""
    if structure.pieces:
        return structure.pieces * step_flops(piece_of(structure), numbers, input_shape, classes)
    return networks * step_flops(structure, numbers, input_shape, classes)


def estimated_bytes(structure: Structure, input_shape: Shape, classes: int) -> int:
    """Return `network_bytes`, or of convolutions twice what forward leaves for backward."""
    if structure.is_convolutional:
        return _convolution_bytes(structure, input_shape, classes)
    return network_bytes(structure, math.prod(input_shape), classes)


def network_bytes(structure: Structure, features: int, classes: int) -> int:
    """Return an estimate from above of the memory that one network in training takes.

    Weights, gradients, two arrays of optimizer state and the next weights; of each activation its
    value, its gradient and what normalization and dropout keep, for a batch or an evaluation.
    """
    sizes = layer_sizes(structure, features, classes)
    parameters = sum((inputs + 1) * outputs for inputs, outputs in sizes)
    activations = sum(outputs for _, outputs in sizes) * max(structure.batch_size, 500)
    if structure.pieces:  # which are there beside the networks that they are of
        parameters *= 2
    return (8 if structure.precision == "float64" else 4) * (6 * parameters + 6 * activations)


@lru_cache(maxsize=1024)
def _convolution_bytes(structure: Structure, input_shape: Shape, classes: int) -> int:
    numbers = ARCHITECTURES[structure.architecture] | COMMON_NUMBERS
    rows = max(structure.batch_size, current_form().image_rows)
    with numerics(structure.precision):
        dtype = parameter_dtype(structure)
        traced = {name: jnp.asarray(value, dtype) for name, value in numbers.items()}
        model = build_model(structure, traced, input_shape, classes)

        def passes(key, x):
            params, state, _ = model.init(key, input_shape)
            left = model.forward(params, state, x, key=key, train=True)
            return jax.tree.leaves(params), jax.tree.leaves(left)

        x = _array((rows, *input_shape), dtype)
        params, left = jax.eval_shape(passes, jax.random.key(0), x)
    return sum(
        share * math.prod(leaf.shape) * leaf.dtype.itemsize
        for share, tree in ((6, params), (2, left))
        for leaf in tree
    )


@lru_cache(maxsize=1024)
def compiled_bytes(
    structure: Structure, numbers: tuple[str, ...], input_shape: Shape, classes: int, shared: bool
) -> tuple[int, int]:
    """Return (bytes whatever the number of networks, bytes per network) of a training program.

    From the compiler's own analysis of the program at two sizes: its arguments but the data, its
    result where that does not take their place, and its temporaries.
    """
    sizes = (2, 4)
    small, large = (_analysed(structure, numbers, input_shape, classes, shared, k) for k in sizes)
    each = max(1, math.ceil((large - small) / (sizes[1] - sizes[0])))
    return max(0, small - sizes[0] * each), each


def _analysed(
    structure: Structure,
    numbers: tuple[str, ...],
    input_shape: Shape,
    classes: int,
    shared: bool,
    networks: int,
) -> int:
    lowered, data = _lowered(structure, numbers, input_shape, classes, shared, networks)
    found = lowered.compile().memory_analysis()
    if found is None:  # a backend that does not tell
        return networks * estimated_bytes(structure, input_shape, classes)
    rows = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(data))
    kept = found.output_size_in_bytes - found.alias_size_in_bytes
    return found.argument_size_in_bytes - rows + kept + found.temp_size_in_bytes


@lru_cache(maxsize=1024)
def _counted_flops(
    structure: Structure, numbers: tuple[str, ...], input_shape: Shape, classes: int
) -> float:
    lowered, _ = _lowered(structure, numbers, input_shape, classes, True, 1)
    return float((lowered.cost_analysis() or {}).get("flops", 0.0))


def _lowered(
    structure: Structure,
    numbers: tuple[str, ...],
    input_shape: Shape,
    classes: int,
    shared: bool,
    networks: int,
) -> tuple[Any, DeviceData]:
    """Return the training program of so many networks, not compiled, and the data it is for."""
    if structure.pieces:  # as many as there may be
        pieces = networks * pieces_of(structure.hidden)
        structure = dataclasses.replace(structure, pieces=pieces)
    program = make_train(structure, input_shape, classes, shared=shared)
    widths = [width_name(i) for i in range(len(structure.hidden) if structure.padded else 0)]
    rows, features = 1000, math.prod(input_shape)  # the rows are only gathered from
    with numerics(structure.precision):
        dtype = parameter_dtype(structure)
        given = {name: _array((networks,), dtype) for name in (*numbers, *widths)}
        seed = _array(() if shared else (networks,), jnp.uint32)
        data = DeviceData(
            _array((rows, features), jnp.uint8),
            _array((rows,), jnp.int32),
            _array((features,), dtype),
            _array((features,), dtype),
        )
        state = jax.eval_shape(program.init, given, seed)
        count = _array((), jnp.int32)
        return program.advance.lower(state, given, seed, data, count, count, count), data


def _array(shape: Shape, dtype: Any) -> Any:
    return jax.ShapeDtypeStruct(shape, dtype)


def memory_budget() -> float:
    """Return the bytes a chunk may take: half an accelerator's memory, a quarter of the host's."""
    statistics = jax.local_devices()[0].memory_stats() or {}
    if "bytes_limit" in statistics:
        return statistics["bytes_limit"] / 2
    return host_memory() / 4
