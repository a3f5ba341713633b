"""The form of a sum: chosen where a program is built, for any platform, and seen by `jax.jit`."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

import jaxnet
from jaxnet import configure
from jaxnet.kernels.form import Form, changed_form, current_form, default_platform, in_form
from jaxnet.kernels.products import transposed_product
from jaxnet.training.layout import Layout
from jaxnet.training.learner import Hyperparameters
from jaxnet.training.numerics import numerics, parameter_dtype, program_form
from jaxnet.training.program import Counts, Program
from jaxnet.training.settings import Shapes
from jaxnet.training.step import DeviceData

FEATURES, CLASSES, ROWS, NETWORKS = 784, 10, 100, 3


def step(platform, **settings):
    """The text of a training step of two-layer networks, lowered for a platform."""
    configuration = configure(hidden=[64], batch_size=32, **settings)
    structure = configuration.structure
    shapes, layout = Shapes((FEATURES,), CLASSES), Layout(size=NETWORKS)
    program = Program(structure, shapes, layout, platform)
    with numerics(configuration.structure.precision):
        dtype = parameter_dtype(configuration.structure)

        def array(*shape, dtype=dtype):
            return jax.ShapeDtypeStruct(shape, dtype)

        given = Hyperparameters.shapes(structure, networks=(NETWORKS,))
        seed, count = array(dtype=jnp.uint32), array(dtype=jnp.int32)
        data = DeviceData(
            array(ROWS, FEATURES, dtype=jnp.uint8),
            array(ROWS, dtype=jnp.int32),
            array(FEATURES),
            array(FEATURES),
        )
        state = jax.eval_shape(program.init, given, seed)
        traced = program.advance.trace(state, given, seed, data, Counts(count, count, count))
        return traced.lower(lowering_platforms=(platform,)).as_text()


def products(text):
    """Each matrix product as (precision, dtype of the left operand)."""
    found = re.findall(
        r"stablehlo.dot_general.*precision = \[(\w+), \w+\].*: \(tensor<(?:\d+x)+([a-z]+\d+)>", text
    )
    assert len(found) == text.count("stablehlo.dot_general")
    return found


# What only a CPU's form has: a transposition that the compiler cannot see, W₁ held in its order.
CPU_ONLY = {"optimization_barrier", "LayoutConstraint"}


def only_for_cpus(text):
    return {name for name in CPU_ONLY if name in text}


@pytest.mark.parametrize(
    ("precision", "asked"),
    [("float32", "HIGHEST"), ("tf32", "HIGH"), ("float64", "HIGHEST")],
)
@pytest.mark.parametrize("platform", ["cuda", "cpu"])
def test_a_step_is_lowered_with_the_precision_that_is_asked_for(platform, precision, asked):
    dtype = "f64" if precision == "float64" else "f32"
    assert set(products(step(platform, precision=precision))) == {(asked, dtype)}


@pytest.mark.parametrize("platform", ["cuda", "cpu"])
def test_a_step_in_mixed_precision_rounds_wide_products_only(platform):
    found = set(products(step(platform, precision="mixed")))
    assert found == {("DEFAULT", "bf16"), ("HIGHEST", "f32")}


@pytest.mark.parametrize("settings", [{"precision": "mixed"}, {"batch_invariant": True}], ids=str)
def test_a_step_for_a_gpu_has_nothing_of_the_form_for_a_cpu(settings):
    """On a machine without a GPU: the platform is an argument, not what the process runs on."""
    on_gpu, on_cpu = step("cuda", **settings), step("cpu", **settings)
    assert only_for_cpus(on_cpu) == CPU_ONLY
    assert only_for_cpus(on_gpu) == set()
    # A library for GPUs transposes while it reads: each product is as it is written.
    assert len(products(on_gpu)) == len(products(step("cuda")))


def test_sums_of_one_order_are_asked_for_on_cpus_alone():
    assert step("cuda") == step("cuda", batch_invariant=True)
    ones = [text.count("stablehlo.dot_general") for text in (step("cpu"), step("cuda"))]
    assert ones[0] == ones[1] < step("cpu", batch_invariant=True).count("stablehlo.dot_general")


def test_convolutions_train_in_turn_on_cpus_and_side_by_side_elsewhere():
    net = configure(architecture="inception_resnet").structure
    assert not program_form(net, "cpu").side_by_side
    assert program_form(net, "cuda").side_by_side
    assert program_form(configure().structure, "cpu").side_by_side


def test_the_form_of_a_program_is_that_of_its_structure():
    structure = configure(precision="mixed", batch_invariant=True).structure
    assert program_form(structure) == Form(
        precision="mixed", platform=default_platform(), side_by_side=True, batch_invariant=True
    )
    assert not program_form(configure().structure).batch_invariant


def test_what_was_traced_in_one_form_is_not_run_in_another():
    seen = []

    @jax.jit
    def f(x):
        seen.append(current_form())
        return transposed_product(x, x)

    x = jnp.ones((16, 16))
    for platform in ("cpu", "cuda", "cpu"):
        with changed_form(platform=platform):
            f(x)
    assert [form.platform for form in seen] == ["cpu", "cuda"]


def test_a_form_ends_where_it_ends_also_with_an_error():
    before, matmul = current_form(), jax.config.jax_default_matmul_precision
    with pytest.raises(ZeroDivisionError), changed_form(precision="tf32", platform="cuda"):
        raise ZeroDivisionError
    assert current_form() == before == Form()
    assert jax.config.jax_default_matmul_precision == matmul


def test_numerics_keep_the_platform_that_is_in_force():
    with in_form(Form(platform="cuda")), numerics("mixed"):
        assert current_form() == Form(precision="mixed", platform="cuda")


def test_nothing_else_asks_for_the_platform_of_the_process():
    package = Path(jaxnet.__file__).parent
    asking = [path for path in package.rglob("*.py") if "default_backend" in path.read_text()]
    assert [path.relative_to(package).as_posix() for path in asking] == ["kernels/form.py"]
