"""One network: a training step of ours beside those of flax, equinox, PyTorch and the course.

All loop over the same minibatches, compiled as far as the peer goes. `jax.grad` is our training
with the same forward pass, differentiated by JAX instead of the backward passes written by hand.
"""

from typing import Any

from benchmarks.peers import COURSE, OURS, PYTORCH, Peer
from benchmarks.peers.ours import Ours
from benchmarks.sweeps import measure_tasks
from benchmarks.tasks import Task, make_task, picture_like
from jaxnet.training.settings import configure

NETS: dict[str, dict[str, Any]] = {
    "50": {"hidden": [50], "batch_size": 200},
    "512-256-256": {
        "hidden": [512, 256, 256],
        "batch_size": 256,
        "optimizer": "adam",
        "learning_rate": 1e-3,
    },
}
STEPS = 15
EXAMPLES = 5000


def _flax(task: Task):
    from benchmarks.peers.flax_optax import FlaxOptax

    return FlaxOptax(task)


def _equinox(task: Task):
    from benchmarks.peers.equinox_optax import EquinoxOptax

    return EquinoxOptax(task)


PEERS = (
    Peer(OURS, Ours, True),
    Peer("jaxnet, jax.grad", lambda task: Ours(task, backward="autodiff"), True),
    Peer("flax + optax", _flax, True, needs="flax"),
    Peer("equinox + optax", _equinox, True, needs="equinox"),
    *PYTORCH,
    *COURSE,
)


def measure(*, smoke: bool) -> list[dict[str, Any]]:
    """Return one row a net and way of training it."""
    images = picture_like(96 if smoke else 3072, 10, EXAMPLES)
    rows = []
    for name, settings in list(NETS.items())[: 1 if smoke else None]:
        task = make_task([configure(**settings)], images, 2 if smoke else STEPS)
        found = measure_tasks([task], peers=PEERS, repeats=1 if smoke else 9)
        rows += [{"net": name, **row} for row in found]
    return rows
