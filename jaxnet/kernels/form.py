"""The form of a sum: everything but its operands that decides how it is computed.

A `Form` is set where a program is built and read where a sum is written. Nothing else asks which
platform a program is for, which precision was chosen, or whether many networks train at once. The
platform is a field, so that a program for a GPU can be traced and lowered on a machine without one.
"""

import contextlib
import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax

CPU = "cpu"

MATMUL_PRECISIONS = {
    "float32": "highest",  # by name: recent GPUs otherwise use TF32
    "tf32": "tensorfloat32",
    "mixed": "BF16_BF16_F32",
    "float64": "highest",
}
"""What JAX calls the precision of matrix products that each of our precisions asks for."""


def default_platform() -> str:
    """Return the platform that JAX computes on in this process: "cpu", "gpu" or "tpu"."""
    return jax.default_backend()


@dataclass(frozen=True, kw_only=True)
class Form:
    """How sums are computed.

    `precision` is a precision of `jaxnet.configure`; None leaves matrix products to JAX's setting.
    `platform` is named as JAX names it. (A device would say too much: two devices of one platform
    have the same form.) `side_by_side` says that the function of one network is traced under
    `jax.vmap` for many: such a function sees one network and cannot know. `batch_invariant` asks
    for sums whose order does not depend on how many networks there are, nor on how they are divided
    among devices; it changes sums on CPUs only.
    """

    precision: str | None = None
    platform: str = dataclasses.field(default_factory=default_platform)
    side_by_side: bool = False
    batch_invariant: bool = False

    @property
    def on_cpu(self) -> bool:
        """Whether the program is for CPUs."""
        return self.platform == CPU

    @property
    def is_mixed(self) -> bool:
        """Whether wide matrix products round their operands to bfloat16 and sum in float32."""
        return self.precision == "mixed"

    @property
    def has_ordered_sums(self) -> bool:
        """Whether sums are written in forms that have one order each."""
        return self.batch_invariant and self.on_cpu

    @property
    def convolves_by_products(self) -> bool:
        """Whether convolutions are matrix products (see `jaxnet.kernels.correlation`)."""
        return self.on_cpu

    @property
    def image_rows(self) -> int:
        """How many images to score at once: on a CPU their activations then stay in its caches."""
        return 25 if self.on_cpu else 100


# A context of JAX and not of Python: `jax.jit` traces anew for another form, so that no function
# that was traced for one form is ever run for another.
_form: Any = jax.make_user_context(None)


def current_form() -> Form:
    """Return the form in force; outside of `in_form`, the form of a function called by itself."""
    return _form.value or Form()


@contextlib.contextmanager
def in_form(form: Form) -> Iterator[None]:
    """Trace in this form. It may decorate a function, too: `in_form(form)(function)`.

    JAX's own precision of matrix products is set to match, for products that others write.

    >>> with in_form(Form(precision="tf32", platform="cuda")):
    ...     current_form().on_cpu, jax.config.jax_default_matmul_precision
    (False, 'tensorfloat32')
    """
    with contextlib.ExitStack() as settings:
        settings.enter_context(_form(form))
        if form.precision is not None:
            precision = MATMUL_PRECISIONS[form.precision]
            settings.enter_context(jax.default_matmul_precision(precision))
        yield


def changed_form(**fields: Any) -> contextlib.AbstractContextManager[None]:
    """Trace in the form in force, but for these fields."""
    return in_form(dataclasses.replace(current_form(), **fields))
