"""Sixteen deep nets at once ([512, 256, 256], batchnorm, dropout, Adam), and plainer ones.

The backward passes written by hand against `jax.grad` of the same forward pass, and both against
the float32 product at the shape of the first layer.
"""

from typing import Any

from benchmarks.peers import MIXED, OURS, Peer
from benchmarks.peers.ours import Ours
from benchmarks.sweeps import measure_tasks
from benchmarks.tasks import make_task, picture_like
from jaxnet.training.settings import configure

NETWORKS, BATCH, STEPS, EXAMPLES = 16, 256, 3, 5000
HIDDEN = [512, 256, 256]
KINDS: dict[str, dict[str, Any]] = {
    "batchnorm, dropout 0.5, Adam": {"norm": "batch", "dropout": 0.5, "optimizer": "adam"},
    "Adam": {"optimizer": "adam"},
    "SGD": {"optimizer": "sgd"},
}
AUTODIFF = "jaxnet, jax.grad"
WAYS = (
    Peer(OURS, Ours, True),
    Peer(AUTODIFF, lambda task: Ours(task, backward="autodiff"), True),
    Peer(MIXED, lambda task: Ours(task, precision="mixed"), True, "bfloat16"),
)


def measure(*, smoke: bool) -> list[dict[str, Any]]:
    """Return one row a kind of net and way of training it."""
    images = picture_like(96 if smoke else 3072, 10, EXAMPLES)
    hidden, networks = ([16, 8], 2) if smoke else (HIDDEN, NETWORKS)
    rows = []
    for kind, settings in list(KINDS.items())[-1 if smoke else 0 :]:
        space = [
            configure(hidden=hidden, batch_size=BATCH, learning_rate=1e-3 / (1 + i), **settings)
            for i in range(networks)
        ]
        task = make_task(space, images, 2 if smoke else STEPS)
        peers = WAYS[:2] if smoke else WAYS
        found = measure_tasks([task], peers=peers, repeats=1 if smoke else 5, reference=AUTODIFF)
        rows += [{"nets": kind, **row} for row in found]
    return rows
