"""Before any training: the first loss against what scores that tell nothing would give."""

import math

from jaxnet.diagnosis.finding import Finding, Observed

# He-initialized nets on standardized inputs have scores of variance 2 at first, which costs about
# 1 above ln C (E[loss] ≈ ln C + variance/2); twice that is no such net.
ABOVE, BELOW = 1.8, 0.9


def initial_loss(run: Observed) -> Finding | None:
    """The first loss is far from its expected value: ln C for softmax, C − 1 for the SVM."""
    expected, first = run.expected_start, run.data_loss(0)
    if expected is None or math.isnan(first) or (len(run.steps) and run.steps[0] > 0):
        return None
    evidence = {"first loss": first, "expected": expected}
    if first > expected * ABOVE and not run.penalized:
        return Finding(
            "initial loss too high",
            evidence,
            f"The first loss is {first:.3g}, where scores that tell nothing would give "
            f"{expected:.3g}: the network is sure of wrong answers before it has seen anything.",
            "shrink the first scores: preprocessing='standardize', or a lower init_scale",
        )
    if first < expected * BELOW:
        return Finding(
            "initial loss too low",
            evidence,
            f"The first loss is {first:.3g}, below the {expected:.3g} of guessing: nothing can be "
            f"known yet.",
            "look at the loss: a mean over the classes as well as over the images, or weights that "
            "were trained on these images before",
        )
    return None
