"""Rules that go by the size of the difference: rounding, small constants, anything else."""

import numpy as np

from jaxnet.gradcheck.hints.difference import Difference, cosine_of


def rounding_rule(case: Difference) -> str | None:
    """Recognize rounding: errors of random sign and one relative size."""
    if case.a.size < 16 or abs(cosine_of(case.d, case.n)) > 0.5:
        return None
    live = case.n != 0
    error = float(np.median(np.abs(case.d[live] / case.n[live])))
    for bits, unit, name in _FORMATS:
        if error < 16 * unit and (_round_mantissa(case.a, bits) == case.a).all():
            return f"every entry is a {name} number, off by {error:.1e}: computed or stored in it"
    if error > 2**-5:
        return None
    for unit, name in _LEVELS:
        if error > unit / 4:
            return (
                f"differences of random sign, relative size {error:.1e}: reduced precision {name}"
            )
    return None


_FORMATS = (
    (8, 2.0**-8, "bfloat16"),
    (11, 2.0**-11, "float16 (or TF32)"),
    (24, 2.0**-24, "float32"),
)

_LEVELS = (
    (2.0**-8, "(bfloat16?), or inputs that differ a little (weights after the update)"),
    (2.0**-12, "(TF32 or float16?), or an approximation in place of the function (GELU by tanh)"),
    (2.0**-25, "(float32?)"),
)


def _round_mantissa(x: np.ndarray, bits: int) -> np.ndarray:
    """Return x rounded to `bits` bits of mantissa."""
    mantissa, exponent = np.frexp(x)
    return np.ldexp(np.round(np.ldexp(mantissa, bits)), exponent - bits)


def small_rule(case: Difference) -> str | None:
    """Recognize a small smooth difference: a constant such as eps."""
    error = np.linalg.norm(case.d) / np.linalg.norm(case.n)
    if not 1e-9 < error < 1e-3:
        return None
    return (
        f"relative difference {error:.1e}: a small constant (the eps of a square root or a "
        f"normalisation) left out, or not the same in both; or an approximation"
    )


def otherwise_rule(case: Difference) -> str:
    """Describe any other difference by its size, angle and signs."""
    cosine = cosine_of(case.a, case.n)
    ratio = np.linalg.norm(case.a) / np.linalg.norm(case.n)
    signs = np.mean(np.sign(case.a) != np.sign(case.n))
    text = f"{case.wrong.sum()} of {case.a.size} entries wrong: norm ratio {ratio:.4g}"
    if case.a.size > 1:
        text += f", cosine {cosine:.4g}"
    text += f", sign differs in {signs:.0%}"
    if case.a.size >= 16 and abs(cosine) < 0.1:
        text += "; hardly related: another tensor, axis or step?"
    return text
