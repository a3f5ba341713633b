"""A random search over all-different widths: one sweep against one network after the other.

Every width is another shape, so that one by one every network compiles programs of its own; the
sweep pads widths to a few common ones. Both train the same networks on the embedded images,
compilation included, and end at the same losses.
"""

import time
from typing import Any

import jax
import numpy as np

import jaxnet

NETWORKS, STEPS, MOST_UNITS = 200, 200, 400


def _alone(i: int, settings: dict[str, Any], data: jaxnet.data.DataSet, steps: int) -> Any:
    if i % 40 == 39:
        jax.clear_caches()  # a process may map so many compiled programs and no more
    return jaxnet.sweep([settings], data, steps=steps).rows[0]


def measure(*, smoke: bool) -> list[dict[str, Any]]:
    """Return one row each for the sweep and for its networks one by one."""
    networks, steps = (2, 2) if smoke else (NETWORKS, STEPS)
    generator = np.random.default_rng(0)
    widths = generator.choice(np.arange(10, MOST_UNITS), networks, replace=False).tolist()
    rates = np.exp(generator.uniform(np.log(1e-3), np.log(1e-1), networks)).tolist()
    space = [
        {"hidden": [width], "learning_rate": rate}
        for width, rate in zip(widths, rates, strict=True)
    ]
    data = jaxnet.data.load("fashion-mnist-mini")
    start = time.perf_counter()
    found = jaxnet.sweep(space, data, steps=steps)
    together = time.perf_counter() - start
    start = time.perf_counter()
    alone = [_alone(i, settings, data, steps) for i, settings in enumerate(space)]
    one_by_one = time.perf_counter() - start
    programs = jaxnet.plan(space, data, steps=steps).programs
    common = {"networks": networks, "steps": steps}
    return [
        {
            **common,
            "how": "one sweep",
            "programs": programs,
            "seconds": together,
            "mean final loss": float(np.mean([row.outcome.final_loss for row in found.rows])),
            "times faster": one_by_one / together,
        },
        {
            **common,
            "how": "one by one",
            "programs": networks,
            "seconds": one_by_one,
            "mean final loss": float(np.mean([row.outcome.final_loss for row in alone])),
            "times faster": 1.0,
        },
    ]
