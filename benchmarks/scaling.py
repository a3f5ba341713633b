"""Where training many networks at once pays: time and memory a network over how many there are.

Two layers of 784 inputs and 10 classes, and of 2 inputs and 2 classes, plain SGD. `times faster` is
the time of a network that trains alone over its share of the step of K: below 1 the networks are
better off one after the other. Memory is what the compiler's analysis of the program gives, but
for the images. A point whose step or memory would exceed the limits below is left out.
"""

from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.tasks import Images, picture_like, rings
from benchmarks.timing import Timing, rounds, seconds
from jaxnet.sweeps.machine.cost import network_bytes, step_flops
from jaxnet.training.learner import Hyperparameters
from jaxnet.training.numerics import numerics
from jaxnet.training.program import MOST_STEPS, Counts, Program
from jaxnet.training.settings import Configuration, configure

NETWORKS = (1, 10, 100, 1000, 10_000, 100_000)
WIDTHS, BATCHES = (8, 32, 128, 512, 1024), (32, 200, 800)
TINY_WIDTHS, TINY_BATCHES = (8, 32), (32,)
MOST_FLOPS, MOST_BYTES = 3e10, 5e9  # of a step, of a program
SECONDS = 0.1  # of a timed call, about


def measure(precision: str, *, smoke: bool) -> list[dict[str, Any]]:
    """Return one row a number of networks, width and batch size."""
    if smoke and precision != "float32":
        return []  # the same code again
    images = {784: picture_like(784, 10, 2000), 2: rings(2000)}
    cells = [(784, width, batch) for batch in BATCHES for width in WIDTHS]
    cells += [(2, width, batch) for batch in TINY_BATCHES for width in TINY_WIDTHS]
    if smoke:
        cells = cells[-1:]
    rows = []
    for features, width, batch in cells:
        rows += _cell(images[features], width, batch, precision, smoke)
    return rows


def _cell(
    images: Images, width: int, batch: int, precision: str, smoke: bool
) -> list[dict[str, Any]]:
    one = configure(hidden=[width], batch_size=batch, learning_rate=1e-3, precision=precision)
    features = images.raw.shape[1]
    flops = step_flops(one.structure, images.shapes)
    each = network_bytes(Program(one.structure, images.shapes))
    counts = [
        count
        for count in (NETWORKS[:2] if smoke else NETWORKS)
        if count * flops <= MOST_FLOPS and count * each <= MOST_BYTES
    ]
    programs = {count: _Program(one, images, count) for count in counts}
    first, calls = {}, {}
    for count, program in programs.items():
        first[str(count)] = seconds(program)
        if not smoke:
            program.steps = min(MOST_STEPS, max(2, int(2 * SECONDS / seconds(program))))
        calls[str(count)] = program
    timings = rounds(calls, first, repeats=1 if smoke else 3)

    def step_seconds(count: int) -> Timing:
        timing, steps = timings[str(count)], programs[count].steps
        return Timing(timing.first, tuple(t / steps / count for t in timing.times))

    return [
        {
            "inputs": features,
            "hidden": width,
            "batch": batch,
            "networks": count,
            "µs a step and network": step_seconds(count).median * 1e6,
            "times faster": step_seconds(count).times_faster_than(step_seconds(1)),
            "GFLOP/s": flops / step_seconds(count).median / 1e9,
            "kB a network": program.bytes / count / 1e3,
            "compile s": program.compile_seconds,
        }
        for count, program in programs.items()
    ]


class _Program:
    """A call that makes `steps` updates of so many networks; compiled when made."""

    def __init__(self, one: Configuration, images: Images, count: int):
        self.precision, self.steps = one.structure.precision, 2
        self.examples = len(images.raw)
        train = Program(one.structure, images.shapes)
        with numerics(self.precision):
            self.given = (Hyperparameters.of([one] * count), jnp.uint32(0))
            self.state = train.init(*self.given)
            self.given = (*self.given, images.on_device)
            lowered = train.advance.lower(self.state, *self.given, self._counts())
            self.compile_seconds = seconds(lambda: self._compile(lowered))
        found = self.advance.memory_analysis()
        data = sum(leaf.nbytes for leaf in jax.tree.leaves(images.on_device))
        kept = found.output_size_in_bytes - found.alias_size_in_bytes
        self.bytes = found.argument_size_in_bytes - data + kept + found.temp_size_in_bytes

    def _compile(self, lowered: Any) -> None:
        self.advance = lowered.compile()

    def __call__(self) -> object:
        with numerics(self.precision):
            self.state, metrics = self.advance(self.state, *self.given, self._counts())
        return self.state, metrics

    def _counts(self) -> Counts:
        return Counts.of(self.examples, self.steps, 100)
