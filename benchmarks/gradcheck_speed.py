"""How long it takes to check every gradient entry of the course's two-layer net.

The same net, inputs and dtype (float64) for all: relu, softmax cross-entropy, L2. The course's loop
moves one coordinate at a time and evaluates the loss in NumPy, twice a coordinate; here without
the backward pass that the course's own net runs each time. It is timed anew beside every checker.
For the largest net it moves every fiftieth coordinate, and its time is multiplied by 50. `speedup`
is its time over the checker's, at a first call, compilation included, and at later ones.
"""

import functools
import importlib.util
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.test_util import check_grads as jax_check_grads

from benchmarks.timing import interleave
from jaxnet.gradcheck import check_grads

STEP, L2 = 1e-5, 1e-3
MOST_ENTRIES = 10_000
# (inputs, hidden, classes, batch), calls after the first, share of the loop's coordinates
NETS = (
    ((4, 10, 3, 5), 7, 1),
    ((64, 64, 10, 16), 3, 1),
    ((784, 62, 10, 16), 1, 50),
)


def measure(*, smoke: bool) -> list[dict[str, Any]]:
    """Return one row a net and checker."""
    return [row for net in (NETS[:1] if smoke else NETS) for row in _measure(*net, smoke)]


def _measure(
    net: tuple[int, int, int, int], repeats: int, every: int, smoke: bool
) -> list[dict[str, Any]]:
    inputs, hidden, classes, batch = net
    generator = np.random.default_rng(0)
    sizes = [(inputs, hidden), (hidden,), (hidden, classes), (classes,)]
    params = [generator.normal(size=size) / np.sqrt(size[0]) for size in sizes]
    x, y = generator.normal(size=(batch, inputs)), generator.integers(classes, size=batch)
    rows = []
    with jax.enable_x64(True):
        loop = functools.partial(_loop, params, x, y, every)
        for name, check in _checkers(params, x, y).items():
            jax.clear_caches()  # each compiles for itself
            verdicts: list[bool] = []
            subjects = {"loop": loop, "check": functools.partial(_note, verdicts, check)}
            timings = interleave(subjects, repeats=1 if smoke else repeats)
            course, taken = every * timings["loop"].median, timings["check"]
            rows.append(
                {
                    "net": f"{inputs}-{hidden}-{classes}",
                    "parameters": sum(p.size for p in params),
                    "checker": name,
                    "accepts": all(verdicts),
                    "first_s": taken.first,
                    "again_s": taken.median,
                    "course_s": course,
                    "first_speedup": course / taken.first,
                    "speedup": course / taken.median,
                }
            )
    return rows


def _note(verdicts: list[bool], check: Callable[[], bool]) -> None:
    verdicts.append(check())


def _checkers(params: list, x: np.ndarray, y: np.ndarray) -> dict[str, Callable[[], bool]]:
    def f(*params):
        return _loss(jnp, params, x, y)

    def ours(mode: str) -> bool:
        return bool(check_grads(f, tuple(params), mode=mode))

    def jax_s() -> bool:
        try:
            jax_check_grads(f, tuple(params), order=1, modes=["rev"])
        except AssertionError:  # its step crosses kinks of relu
            return False
        return True

    found: dict[str, Callable[[], bool]] = {
        "jaxnet, full": functools.partial(ours, "full"),
        "jaxnet, directional": functools.partial(ours, "directional"),
        "jax check_grads": jax_s,
    }
    if importlib.util.find_spec("torch"):
        found["torch, fast"] = lambda: _torch(params, x, y, fast_mode=True)
        if sum(p.size for p in params) <= MOST_ENTRIES:  # else minutes: 5 ms an entry
            found["torch, slow"] = lambda: _torch(params, x, y, fast_mode=False)
    return found


def _loss(np_: Any, params: Any, x: Any, y: np.ndarray) -> Any:
    """The loss in NumPy or in jax.numpy."""
    w1, b1, w2, b2 = params
    scores = np_.maximum(x @ w1 + b1[None, :], 0) @ w2 + b2[None, :]
    scores = scores - scores.max(1, keepdims=True)
    log_p = scores - np_.log(np_.exp(scores).sum(1, keepdims=True))
    return -log_p[np.arange(len(y)), y].mean() + L2 * ((w1 * w1).sum() + (w2 * w2).sum())


def _loop(params: list[np.ndarray], x: np.ndarray, y: np.ndarray, every: int) -> list[np.ndarray]:
    """Central differences, a coordinate at a time, in place, as the course does."""
    gradients = []
    for param in params:
        gradient = np.zeros_like(param)
        for flat in range(0, param.size, every):
            place = np.unravel_index(flat, param.shape)
            kept = param[place]
            param[place] = kept + STEP
            ahead = _loss(np, params, x, y)
            param[place] = kept - STEP
            behind = _loss(np, params, x, y)
            param[place] = kept
            gradient[place] = (ahead - behind) / (2 * STEP)
        gradients.append(gradient)
    return gradients


def _torch(params: list[np.ndarray], x: np.ndarray, y: np.ndarray, *, fast_mode: bool) -> bool:
    import torch  # pyright: ignore[reportMissingImports]

    inputs, labels = torch.tensor(x), torch.tensor(y)

    def f(w1, b1, w2, b2):
        scores = torch.relu(inputs @ w1 + b1) @ w2 + b2
        data = torch.nn.functional.cross_entropy(scores, labels)
        return data + L2 * ((w1 * w1).sum() + (w2 * w2).sum())

    leaves = [torch.tensor(p, requires_grad=True) for p in params]
    return torch.autograd.gradcheck(f, leaves, fast_mode=fast_mode, raise_exception=False)
