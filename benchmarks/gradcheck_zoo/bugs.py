"""All planted bugs: those of the research note, and those that it lists as to be added."""

from benchmarks.gradcheck_zoo import (
    activations,
    affine,
    entries,
    images,
    losses,
    norms,
    sequences,
    updates,
)
from benchmarks.gradcheck_zoo.row import Bug

BUGS: tuple[Bug, ...] = (
    *affine.BUGS,
    *activations.BUGS,
    *losses.BUGS,
    *norms.BUGS,
    *images.BUGS,
    *sequences.BUGS,
    *entries.BUGS,
    *updates.BUGS,
)
