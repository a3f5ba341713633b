"""A check before any training: the first loss against the loss of uninformative scores."""

import math

from jaxnet.diagnosis.finding import Finding, Observed

# He-initialized networks on standardized inputs have scores of variance 2 at first, so their loss
# is about 1 above ln C (E[loss] ≈ ln C + variance/2), well below the upper limit.
MAX_OVER_EXPECTED, MIN_OVER_EXPECTED = 1.8, 0.9


def initial_loss(run: Observed) -> Finding | None:
    """The first loss is far from its expected value: ln C for softmax, C − 1 for the SVM."""
    expected, first = run.expected_start, run.data_loss(0)
    if expected is None or math.isnan(first) or (len(run.steps) and run.steps[0] > 0):
        return None
    evidence = {"first loss": first, "expected": expected}
    if first > expected * MAX_OVER_EXPECTED and not run.penalized:
        return Finding(
            "initial loss too high",
            evidence,
            f"The first loss is {first:.3g}, where uninformative scores would give "
            f"{expected:.3g}: the network is certain of wrong answers from the start.",
            "shrink the first scores: preprocessing='standardize', or a lower init_scale",
        )
    if first < expected * MIN_OVER_EXPECTED:
        return Finding(
            "initial loss too low",
            evidence,
            f"The first loss is {first:.3g}, below the {expected:.3g} of guessing, although the "
            f"network has learned nothing yet.",
            "check the loss for a mean over the classes as well as over the images, and the "
            "weights for earlier training on these images",
        )
    return None
