"""What training costs nominally: rates, compilation, and when another program is worth it.

Decisions of a plan use these fixed costs, never timings, so that a sweep is always planned the same
way: results that agree bit by bit depend on it.
"""

import math

from jaxnet.kernels.form import current_form
from jaxnet.training.settings import Structure

# (FLOP/s of products, seconds to compile a program, seconds of a step whatever its products)
NOMINAL = {"cpu": (2e11, 1.5, 1e-4), "gpu": (3e13, 4.0, 5e-5)}

# FLOPs per step below which the networks of one seed do not fill the machine and join other seeds.
SEEDS_APART_MIN_FLOPS = {"cpu": 1e8, "gpu": 3e10}


# FLOPs per step of one network up to which CPU devices train a stack faster than one program, or
# as fast. Milliseconds a step on 2 cores, one device / two, by networks and sizes at a batch size:
# 16 of 2-32-2 at 32: 0.077 / 0.040; 1,000 of them: 3.7 / 2.1; 10,000 of them: 52 / 53, and 1,000 of
# 784-10-10 at 32: 34 / 32, where memory sets the rate; 64 of 784-100-10 at 200: 19.7 / 21.8; 48 of
# 3072-80-10 at 200: 51 / 60; 12 of 3072-100-10 at 500: 30 / 34.
# The figures for 2-32-2 were measured before small products were summed in loops
# (`kernels.products`).
CPU_SPLIT_MAX_FLOPS = 4e6
CPU_SPLIT_MIN_NETWORKS = 4  # on each device, unless the user asked for a number of devices


# Activations (a count) of all networks that train at once on a CPU, beyond which they no longer
# stay in its caches. Microseconds a network and step, 2-32-2 at batch 32, by networks at once:
# 1,000: 4.2; 2,000: 4.0; 4,000: 4.7; 10,000: 6.7. Networks with more activations each have wide
# products, whose rate does not depend on caches: so at least CPU_MIN_AT_ONCE train at once.
CPU_CACHED_ACTIVATIONS = 2**21
CPU_MIN_AT_ONCE = 64


def nominal_costs() -> tuple[float, float, float]:
    """Return FLOP/s, seconds to compile and seconds of an empty step on the platform in force."""
    return NOMINAL[_kind()]


def seeds_apart_min_flops() -> float:
    """Return the FLOPs per step from which the networks of one seed train by themselves."""
    return SEEDS_APART_MIN_FLOPS[_kind()]


def _kind() -> str:
    return "cpu" if current_form().on_cpu else "gpu"


def devices_for(networks: int, flops_per_step: float, devices: int, asked: bool = False) -> int:
    """Return among how many of the devices to divide networks.

    Networks are always divided among accelerators. CPU devices share their cores, so that a program
    that keeps all cores busy gains nothing; networks of few FLOPs do not keep them busy.
    """
    if asked or not current_form().on_cpu:
        return min(networks, devices)
    if flops_per_step >= CPU_SPLIT_MAX_FLOPS:
        return 1
    return max(1, min(networks // CPU_SPLIT_MIN_NETWORKS, devices))


def most_at_once(structure: Structure, classes: int, devices: int) -> float | int:
    """Return how many networks to train at once if memory is no matter."""
    if not structure.row.is_chain or not current_form().on_cpu:
        return math.inf
    each = structure.batch_size * (sum(structure.hidden) + classes)
    return max(CPU_MIN_AT_ONCE, CPU_CACHED_ACTIVATIONS // each) * devices


def why_divided() -> str:
    """Return why `devices_for` divides networks without being asked."""
    if current_form().on_cpu:
        return "the products of one network are too small to keep every core busy"
    return "accelerators work independently"


def fitting_size(networks: int, size: int, flops_each: float) -> int:
    """Return the number of slots for networks that had `size`: halved as often as is worth it.

    Each half is a program that compiles once. `flops_each` is the work that a slot still costs.
    """
    smaller = size
    while smaller > 1 and networks <= math.ceil(smaller / 2):
        smaller = math.ceil(smaller / 2)
    rate, compiling, _ = nominal_costs()
    return smaller if (size - smaller) * flops_each > compiling * rate else size
