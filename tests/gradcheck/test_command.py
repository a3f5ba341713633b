"""`jaxnet gradcheck` as its users meet it: what it prints, how it exits, what it refuses."""

import json
import sys

import jax
import numpy as np
import pytest

from jaxnet import layers
from jaxnet.cli.parser import main
from jaxnet.errors import ConfigurationError
from jaxnet.gradcheck.cli import command
from jaxnet.gradcheck.cli.argument_text import build_arguments

MODULE = """
import jax
import jax.numpy as jnp
import numpy as np

@jax.custom_vjp
def cube(x):
    return jnp.sum(x**3)

cube.defvjp(lambda x: (cube(x), x), lambda x, dout: (3 * dout * x**2,))

@jax.custom_vjp
def wrong_cube(x):
    return jnp.sum(x**3)

wrong_cube.defvjp(lambda x: (wrong_cube(x), x), lambda x, dout: (2 * dout * x**2,))

def loss(w, x, labels, key, *, power=2.0):
    noise = jax.random.normal(key, x.shape, x.dtype)
    scores = (x + noise) @ w
    return -power * jnp.sum(jax.nn.log_softmax(scores)[jnp.arange(len(labels)), labels])

class Model:
    @staticmethod
    def energy(x):
        return jnp.sum(jnp.cos(x))

def raises(x):
    raise RuntimeError("no such luck")

number = 7
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Every command runs in an empty directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def write(here, monkeypatch):
    """Write the module user_module into the current directory; it is forgotten afterwards."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write(text=MODULE):
        (here / "user_module.py").write_text(text)
        return "user_module"

    yield write
    sys.modules.pop("user_module", None)


@pytest.fixture
def fails(capsys):
    """Run a command that must fail; return its one message."""

    def fails(*arguments):
        assert main(["gradcheck", *arguments]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("jaxnet: ")
        assert "Traceback" not in err
        return err

    return fails


# The table


def test_rows_are_printed_and_written(here, capsys):
    assert main(["gradcheck", "--only", "layer relu*float64", "--json", "rows.json"]) == 0
    head, *lines, summary = capsys.readouterr().out.splitlines()
    assert head.split() == ["verdict", "what", "autodiff", "numeric", "bound", "options"]
    assert [line.split()[:3] for line in lines] == [
        ["PASS", "layer", "relu"],
        ["PASS", "layer", "relu"],
        ["KINK", "layer", "relu"],
    ]
    assert float(lines[0].split()[4]) < float(lines[0].split()[5]) < 1e-8
    assert summary.startswith("3 of 3 hold, 1 of them at a kink; ")
    written = json.loads((here / "rows.json").read_text())
    assert [row["verdict"] for row in written["rows"]] == ["PASS", "PASS", "KINK"]
    assert written["rows"][0]["report"]["leaves"][0]["path"] == "x"
    assert (written["seed"], written["missing"]) == (0, [])


def test_the_compiler_is_left_as_it_was():
    name = "jax_disable_most_optimizations"
    before = command._CONFIG.read(name)
    with command._quick_compilation():
        assert command._CONFIG.read(name) is True
    assert command._CONFIG.read(name) is before


def test_a_wrong_backward_is_named_and_exits_with_1(monkeypatch, capsys):
    right = layers.layernorm_backward
    monkeypatch.setattr(layers, "layernorm_backward", lambda d, c: (*right(d, c)[:2], -d.sum(0)))
    assert main(["gradcheck", "--only", "layer layernorm, 5×7", "--seed", "3"]) == 1
    out = capsys.readouterr().out
    first = out.splitlines()[1]
    assert first.startswith("FAIL        layer layernorm")
    assert "gradient of shift is wrong" in first
    assert "factor -1: sign flipped" in first
    assert "layer layernorm, 5×7, float64:\ngradcheck FAIL" in out
    assert "0 of 2 hold" in out.splitlines()[-1]
    assert "--seed 3" in out.splitlines()[-1]


def test_a_row_that_raises_fails_and_the_others_go_on(monkeypatch, capsys):
    def broken(dout, cache):
        raise TypeError("two things do not fit")

    monkeypatch.setitem(layers.ACTIVATIONS, "tanh", (layers.tanh_forward, broken))
    assert main(["gradcheck", "--only", "layer *, 1×1, float64"]) == 1
    out = capsys.readouterr().out
    assert "two things do not fit" in next(s for s in out.splitlines() if "layer tanh" in s)
    assert "5 of 6 hold" in out.splitlines()[-1]


def test_what_has_no_row_fails_the_whole_table(monkeypatch, capsys):
    kept = [row for row in command.catalogue() if row.kind == "update rule" and row.name != "sgd"]
    monkeypatch.setattr(command, "catalogue", lambda: kept[:1])
    assert main(["gradcheck"]) == 1
    out = capsys.readouterr().out
    assert "1 of 1 hold" in out
    assert "no row proves the update rule sgd: add it to" in out
    assert main(["gradcheck", "--only", "*"]) == 0


def test_few_reports_are_printed_in_full(monkeypatch, capsys):
    broken = layers.tanh_forward, lambda dout, cache: 2 * dout
    monkeypatch.setitem(layers.ACTIVATIONS, "tanh", broken)
    monkeypatch.setattr(command, "_MAX_FULL_REPORTS", 1)
    assert main(["gradcheck", "--only", "layer tanh, 1×1"]) == 1
    out = capsys.readouterr().out
    assert out.count("gradcheck FAIL") == 1
    assert "1 more reports: --json FILE writes all" in out


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--only", "reul"], "--only selects no row: unknown row 'reul': did you mean 'relu'?"),
        (["--only", "adam", "--json", "no/such.json"], "cannot write no/such.json"),
        (["--only", "adam", "--json", "."], "cannot write .: expected a file"),
        (["--seed", "-1"], "--seed expects a number from 0, got -1"),
        (["--args", "f64[3]"], "--args belongs to a function: give MODULE:FUNCTION"),
        (["--grad", "a:b"], "--grad belongs to a function: give MODULE:FUNCTION"),
        (["a:b", "--only", "adam"], "--only selects rows of jaxnet's own table"),
    ],
)
def test_options_that_cannot_be(fails, arguments, text):
    assert text in fails(*arguments)


# A function of the user's


def test_a_function_with_arguments_from_a_text(write, capsys, here):
    module = write()
    spec = "w=f64[3,4] labels=i32[2]<4 x=f64[2,3] key power=2.0"
    assert main(["gradcheck", f"{module}:loss", "--args", spec, "--json", "r.json"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("gradcheck PASS")
    assert all(f"\n  {name} " in out for name in ("w", "x", "power"))
    assert json.loads((here / "r.json").read_text())["verdict"] == "PASS"


def test_a_wrong_function_exits_with_1(write, capsys):
    module = write()
    assert main(["gradcheck", f"{module}:cube", "--args", "f32[5]"]) == 0
    assert main(["gradcheck", f"{module}:wrong_cube", "--args", "f64[5]", "--seed", "2"]) == 1
    out = capsys.readouterr().out
    assert "gradcheck FAIL" in out
    assert "seed=2" in out


def test_a_method_of_a_module_in_a_package(here, capsys):
    (here / "parcel").mkdir()
    (here / "parcel" / "__init__.py").write_text("")
    (here / "parcel" / "inner.py").write_text(MODULE)
    assert main(["gradcheck", "parcel.inner:Model.energy", "--args", "f64[2,2]"]) == 0
    assert main(["gradcheck", "parcel.iner:Model.energy", "--args", "f64[2,2]"]) == 2
    assert "did you mean 'parcel.inner'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("returned", "code"),
    [
        ("(np.array([1.0, 2.0]),)", 0),
        ("{'args': (np.array([1.0, 2.0]),), 'grad': lambda x: 3 * x**2, 'mode': 'full'}", 0),
        ("{'args': (np.array([1.0, 2.0]),), 'grad': lambda x: x**2}", 1),
    ],
)
def test_a_function_with_check_args(write, capsys, returned, code):
    module = write(f"{MODULE}\ndef check_args():\n    return {returned}\n")
    assert main(["gradcheck", f"{module}:cube"]) == code
    assert capsys.readouterr().out.startswith("gradcheck FAIL" if code else "gradcheck PASS")


@pytest.mark.parametrize(
    ("returned", "text"),
    [
        ("[1.0]", "expects to return a tuple of arguments, or a dict"),
        ("{'arg': (1.0,)}", "got a dict of arg"),
        ("{'args': (1.0,), 'gard': 1}", "unknown option 'gard': did you mean 'grad'?"),
        ("1 / 0", "check_args() raised ZeroDivisionError"),
        ("(np.arange(3),)", "no differentiable leaf"),
    ],
)
def test_check_args_that_cannot_be(write, fails, returned, text):
    module = write(f"{MODULE}\ndef check_args():\n    return {returned}\n")
    assert text in fails(f"{module}:cube")


BY_HAND = """
def cube_grad(x):
    return 3 * x**2

def half(x):
    return 1.5 * x**2

def plain(x):
    return (x * x * x).sum()

def other(x):
    return (x * x).sum()

def bilinear(w, x):
    return w @ x, (w, x)

def bilinear_back(dout, cache):
    w, x = cache
    return dout * x, dout * w

POINT = (np.array([1.0, 2.0]),)

def point():
    return POINT

def with_options():
    return {"args": POINT, "grad": half}
"""


@pytest.mark.parametrize(
    ("target", "options", "code"),
    [
        ("plain", "--grad cube_grad --args f64[4]", 0),
        ("plain", "--grad {}:cube_grad --args f64[4]", 0),
        ("plain", "--grad half --args f64[4]", 1),
        ("bilinear", "--backward bilinear_back --args x=f64[4]|w=f64[4]", 0),
        ("cube", "--reference plain --args f64[4]", 0),
        ("cube", "--reference {}:other --args f64[4]", 1),
        ("cube", "--args {}:POINT", 0),
        ("cube", "--args {}:point", 0),
        ("plain", "--args {}:with_options", 1),
        ("plain", "--args {}:with_options --grad cube_grad", 0),
        ("cube", "--args ([1.0,2.5],)", 0),
        ("wrong_cube", "--args ([1.0,2.5],)", 1),
        ("plain,cube", "--args f64[3]", 0),
        ("plain,wrong_cube,cube", "--args f64[3]", 1),
    ],
)
def test_gradients_and_arguments_by_name(write, capsys, here, target, options, code):
    module = write(MODULE + BY_HAND)
    words = [word.format(module).replace("|", " ") for word in options.split()]
    words += ["--json", "r.json"]
    assert main(["gradcheck", f"{module}:{target}", *words]) == code
    out = capsys.readouterr().out
    names = target.split(",")
    assert out.count("gradcheck FAIL") == code
    assert out.count("gradcheck PASS") == len(names) - code
    written = json.loads((here / "r.json").read_text())
    if len(names) > 1:
        assert list(written) == names
        assert all(f"{name}: gradcheck" in out for name in names)
    else:
        assert written["verdict"] == ("FAIL" if code else "PASS")


def test_a_module_whose_check_args_go_by_function(write, capsys):
    by_function = "{'cube': POINT, 'plain': {'args': POINT, 'grad': %s}}"
    for grad, code in [("cube_grad", 0), ("half", 1)]:
        sys.modules.pop("user_module", None)
        returned = by_function % grad
        module = write(f"{MODULE}{BY_HAND}\ndef check_args():\n    return {returned}\n")
        assert main(["gradcheck", module]) == code
        out = capsys.readouterr().out
        assert "cube: gradcheck PASS" in out
        assert f"plain: gradcheck {'FAIL' if code else 'PASS'}" in out
        assert main(["gradcheck", f"{module}:cube"]) == 0
        assert main(["gradcheck", f"{module}:plain"]) == code
        capsys.readouterr()


@pytest.mark.parametrize(
    ("target", "options", "text"),
    [
        ("plain", "--grad cube_grda", "unknown function in {} 'cube_grda': did you mean"),
        ("plain", "--grad {}x:cube_grad", "did you mean '{}'?"),
        ("plain", "--grad {}:number", "{}:number expects a function, got int"),
        ("plain", "--grad cube_grad --backward half", "give grad= (of a scalar f) or backward="),
        ("plain,cube", "--grad cube_grad", "--grad belongs to one function, got plain, cube"),
        ("plain,", "", "expected MODULE:FUNCTION"),
        ("plain", "--args {}:pont", "unknown function in {} 'pont': did you mean 'point'?"),
        ("plain", "--args {}:number", "--args {}:number expects to return a tuple"),
        ("plain", "--args (1.0", "is no tuple of Python values"),
        ("plain", "--args (1.0)", "--args expects a tuple, got (1.0): write (1.0,)"),
        (None, "", "a module whose check_args() returns arguments by the function's name"),
    ],
)
def test_names_that_cannot_be(write, fails, target, options, text):
    module = write(MODULE + BY_HAND + "\ndef check_args():\n    return POINT\n")
    words = [word.format(module) for word in options.split()]
    if "--grad" in words:
        words += ["--args", "f64[3]"]
    what = module if target is None else f"{module}:{target}"
    assert text.format(module) in fails(what, *words)


@pytest.mark.parametrize(
    ("target", "spec", "text"),
    [
        ("{}:cbue", "f64[3]", "did you mean 'cube'?"),
        ("{}:Model.enrgy", "f64[3]", "did you mean 'energy'?"),
        ("{}:number", "f64[3]", "expects a function, got int"),
        ("{}x:cube", "f64[3]", "did you mean '{}'?"),
        ("{}", "f64[3]", "expected MODULE:FUNCTION"),
        ("{}.cube", "f64[3]", "write {}:cube"),
        ("{}.py:cube", "f64[3]", "write {}:cube"),
        ("{}:cube", None, "has no check_args: give --args"),
        ("{}:raises", "f64[3]", "no such luck"),
        ("{}:cube", "i32[3]", "no differentiable leaf"),
        ("{}:cube", "x=f65[3]", "unknown dtype 'f65': did you mean 'f64'?"),
        ("{}:cube", "y=f64[3]", "unknown argument of cube 'y'"),
        ("{}:cube", "f64[3] f64[3]", "--args does not fit cube"),
        ("{}:cube", "", "--args is empty"),
        ("{}:cube", "f64[a]", "expected a shape such as [3,4], got [a]"),
        ("{}:cube", "f64[3", "is no argument"),
        ("{}:cube", "f64[3]<5", "< expects integers"),
        ("{}:cube", "i32[3]<0", "< expects integers and a number above 0"),
        ("{}:cube", "x=f64[3] x=f64[3]", "x is given twice"),
        ("{}:loss", "w=f64[3,4] f64[2,3]", "without a name follows one with a name"),
        ("{}:loss", "w=f64[3,4] lables=i32[2]", "did you mean 'labels'?"),
    ],
)
def test_functions_and_arguments_that_cannot_be(write, fails, target, spec, text):
    name = write()
    arguments = [target.format(name)] + ([] if spec is None else ["--args", spec])
    assert text.format(name) in fails(*arguments)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("import no_such_thing_at_all", "raised ModuleNotFoundError: No module named"),
        ("1 / 0", "raised ZeroDivisionError"),
        ("def (", "raised SyntaxError"),
    ],
)
def test_modules_that_cannot_be_imported(write, fails, source, text):
    module = write(source)
    assert text in fails(f"{module}:f", "--args", "f64[3]")


# Arguments from a text


def test_every_kind_of_item():
    text = "f16[2] bf16[] f32 i8[2, 3]<4 u16[5]<2 bool[4] key 3 -2.5e-1 true none f64[ 0 ]"
    _, args = build_arguments(lambda *args: args, text)
    shapes = [(2,), (), (), (2, 3), (5,), (4,), (), (0,)]
    names = ["float16", "bfloat16", "float32", "int8", "uint16", "bool", "key<fry>", "float64"]
    arrays = [arg for arg in args if hasattr(arg, "dtype")]
    assert [arg.shape for arg in arrays] == shapes
    assert [str(arg.dtype) for arg in arrays] == names
    assert [arg for arg in args if not hasattr(arg, "dtype")] == [3, -0.25, True, None]
    assert args[3].max() < 4
    assert args[4].max() < 2


def test_a_seed_gives_the_same_arguments():
    first, same, other = (
        build_arguments(lambda x, key: x, "x=f64[3] key", seed)[1] for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first[0], same[0])
    assert (first[0] != other[0]).all()
    assert first[1] == same[1] != other[1]


def test_names_go_to_their_parameters():
    def f(a, b=1.0, *, c):
        return a, b, c

    call, args = build_arguments(f, "2 c=5 b=4")
    assert call(*args) == (2, 4, 5)
    call, args = build_arguments(lambda **any: any, "y=1 z=none")
    assert call(*args) == {"y": 1, "z": None}
    call, args = build_arguments(jax.jit(lambda x, key: x), "x=3 key")
    assert call(*args) == 3


def test_a_missing_argument_is_named():
    with pytest.raises(ConfigurationError, match="missing a required argument: 'y'"):
        build_arguments(lambda x, y: x, "x=f64[3]")
