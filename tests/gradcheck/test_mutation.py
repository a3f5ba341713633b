"""Mutants of jaxnet's own backward code must be rejected by the checker.

Each mutant is one change to the syntax tree of a backward function, loaded as a module of its own
from the changed source. Those that compute the same function are listed below with the reason.
"""

import ast
import functools
import importlib
import itertools
import pathlib
import types
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnet import layers, losses
from jaxnet.errors import ConfigurationError
from jaxnet.gradcheck import check_grads

pytestmark = pytest.mark.slow

# What is mutated: where, in which function, in which of its statements; and how it is checked.


class Subject(NamedTuple):
    module: str
    function: str
    check: Callable[[types.ModuleType], Iterator[Any]]  # yields one report an argument set
    gradient_only: Callable[[ast.AST], list[ast.AST]] = lambda definition: [definition]


def draw(seed, *shapes):
    """Return normal arrays, at least 0.02 from 0."""
    generator = np.random.default_rng(seed)
    arrays = [generator.normal(size=shape) for shape in shapes]
    return tuple(jnp.asarray(a + 0.02 * np.sign(a), jnp.float32) for a in arrays)


def layer(module, name, *points):
    """Return the subject `name`_backward at points (real forward pass, arguments)."""

    def check(mutant):
        for forward, args in points:
            backward = getattr(mutant, f"{name}_backward")
            yield check_grads(_first_two(forward), args, backward=backward)

    return Subject(f"jaxnet.layers.{module}", f"{name}_backward", check)


@functools.cache  # one function a layer, so that the checker can keep what it compiled
def _first_two(forward):
    return lambda *args: forward(*args)[:2]


def elementwise(name, **settings):
    forward = functools.partial(getattr(layers, f"{name}_forward"), **settings)
    return layer("activations", name, (forward, draw(1, (6, 5))))


def dropout(train):
    def forward(x):
        return layers.dropout_forward(x, 0.3, jax.random.key(3), train=train)

    return forward


def batchnorm(train):
    def forward(x, scale, shift):
        running = jnp.full_like(scale, 0.3), jnp.full_like(scale, 1.7)
        return layers.batchnorm_forward(x, scale, shift, *running, train=train)

    return forward


LABELS = jnp.array([0, 3, 1, 2, 2, 0, 1])


def loss(name, *gradient_names, **settings):
    def value(scores):
        return getattr(losses, name)(scores, LABELS, **settings)[0]

    def check(mutant):
        def grad(scores):
            return (getattr(mutant, name)(scores, LABELS, **settings)[1],)

        yield check_grads(value, draw(2, (7, 4)), grad=grad)

    def gradient_only(definition):
        """Return what computes the gradient alone: some assignments and the second result."""
        parts = []
        for statement in definition.body:
            if isinstance(statement, ast.Assign) and statement.targets[0].id in gradient_names:
                parts.append(statement)
            if isinstance(statement, ast.Return):
                parts.append(statement.value.elts[1])
        return parts

    return Subject("jaxnet.losses", name, check, gradient_only)


def penalty():
    def value(convention):
        def f(params):
            penalty, _ = losses.l2_penalty(params, 0.3, convention=convention)
            return jnp.sin(params["w"]).sum() + params["b"].prod() + penalty

        return f

    values = {convention: value(convention) for convention in ("half", "full")}

    def check(mutant):
        w, b = draw(3, (4, 3), (3,))
        for convention, f in values.items():

            def grad(params, convention=convention):
                data = {"w": jnp.cos(params["w"]), "b": params["b"].prod() / params["b"]}
                return (mutant.add_l2(data, params, 0.3, convention=convention),)

            yield check_grads(f, ({"w": w, "b": b},), grad=grad)

    return Subject("jaxnet.losses", "add_l2", check)


SQUARE = draw(4, (5, 5), (5, 5), (5,))  # a transpose or an axis is no matter of shape
NORM = draw(6, (5, 5), (5,), (5,))
OBLONG = draw(7, (6, 4), (4,), (4,))  # where the batch is no width
SUBJECTS = [
    layer(
        "affine",
        "affine",
        (layers.affine_forward, SQUARE),
        (layers.affine_forward, draw(5, (4, 3, 2), (6, 5), (5,))),
    ),
    elementwise("relu"),
    elementwise("leaky_relu", negative_slope=0.3),
    elementwise("tanh"),
    elementwise("sigmoid"),
    elementwise("gelu"),
    layer(
        "batchnorm",
        "batchnorm",
        *((batchnorm(train), args) for args in (NORM, OBLONG) for train in (True, False)),
    ),
    layer("layernorm", "layernorm", (layers.layernorm_forward, NORM)),
    layer("dropout", "dropout", (dropout(True), draw(9, (6, 5))), (dropout(False), draw(9, (2,)))),
    loss("softmax_cross_entropy", label_smoothing=0.1),
    loss("multiclass_svm", "violated", "dscores"),
    loss("squared_error"),
    penalty(),
]

# How a node is changed. Each operator yields (what was done, the changed node).

SWAPPED = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult}
COMPARED = {ast.Gt: (ast.GtE, ast.Lt), ast.LtE: (ast.Lt, ast.GtE), ast.GtE: (ast.Gt, ast.LtE)}


def change_operation(node):
    if isinstance(node, ast.BinOp) and type(node.op) in SWAPPED:
        yield "drop the right", node.left
        negated = ast.UnaryOp(ast.USub(), node.right)
        yield "drop the left", negated if isinstance(node.op, ast.Sub) else node.right
        yield "swap the operator", ast.BinOp(node.left, SWAPPED[type(node.op)](), node.right)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult):
        yield "drop the right", node.left
        yield "drop the left", node.right
        yield "exchange the operands", ast.BinOp(node.right, node.op, node.left)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield "drop the sign", node.operand


def change_attribute(node):
    if isinstance(node, ast.Attribute) and node.attr == "T":
        yield "drop .T", node.value
    if isinstance(node, ast.Attribute) and node.attr in ("sum", "mean"):
        other = "mean" if node.attr == "sum" else "sum"
        yield f"{node.attr} to {other}", ast.Attribute(node.value, other, node.ctx)


def change_axis(node):
    if isinstance(node, ast.keyword) and node.arg == "axis":
        yield "other axis", ast.keyword("axis", ast.Constant(1 - node.value.value))
    if isinstance(node, ast.Subscript) and ast.unparse(node).endswith(".shape[0]"):
        yield "other axis", ast.Subscript(node.value, ast.Constant(1), node.ctx)


def change_condition(node):
    if isinstance(node, ast.Compare) and type(node.ops[0]) in COMPARED:
        for other in COMPARED[type(node.ops[0])]:
            yield f"to {other.__name__}", ast.Compare(node.left, [other()], node.comparators)
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "jnp.where":
        condition, yes, no = node.args
        yield "exchange the branches", ast.Call(node.func, [condition, no, yes], [])
    if isinstance(node, ast.If):
        yield "negate", ast.If(ast.UnaryOp(ast.Not(), node.test), node.body, node.orelse)
    if isinstance(node, ast.IfExp):
        yield "negate", ast.IfExp(node.test, node.orelse, node.body)


def change_results(node):
    if isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple):
        *first, one, other = node.value.elts
        yield "exchange the last two", ast.Return(ast.Tuple([*first, other, one], ast.Load()))


def change_constant(node):
    if isinstance(node, ast.Constant) and type(node.value) in (int, float) and node.value:
        yield "+10 %", ast.Constant(node.value * 1.1)
        yield "-10 %", ast.Constant(node.value * 0.9)


OPERATORS = (
    change_operation,
    change_attribute,
    change_axis,
    change_condition,
    change_constant,
    change_results,
)


class Mutant(NamedTuple):
    name: str  # module.function line: before -> after
    source: str


def mutants(subject):
    path = importlib.import_module(subject.module).__file__
    tree = ast.parse(pathlib.Path(path).read_text(encoding="utf-8"))
    # What forward returns is of the original's classes, and backward asks for those.
    tree.body = [
        ast.ImportFrom(subject.module, [ast.alias(node.name)], 0)
        if isinstance(node, ast.ClassDef)
        else node
        for node in tree.body
    ]
    definition = next(node for node in tree.body if getattr(node, "name", None) == subject.function)
    found = []
    for part in subject.gradient_only(definition):
        for node in list(_computing(part)):
            for change, changed in itertools.chain.from_iterable(op(node) for op in OPERATORS):
                before = ast.unparse(node).split("\n")[0]
                Replace(node, changed).visit(tree)
                found.append(
                    Mutant(
                        f"{subject.function}: {change}: {before}",
                        ast.unparse(ast.fix_missing_locations(tree)),
                    )
                )
                Replace(changed, node).visit(tree)
    return found


class Replace(ast.NodeTransformer):
    """Put one node in the place of another."""

    def __init__(self, old, new):
        self.old, self.new = old, new

    def visit(self, node):
        return self.new if node is self.old else self.generic_visit(node)


def _computing(node):
    """Yield the node and those below it, but for indices and the numbers of axes."""
    yield node
    for field, value in ast.iter_fields(node):
        if field == "slice" or (isinstance(node, ast.keyword) and node.arg == "axis"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _computing(child)


def load(name, source):
    module = types.ModuleType(name)
    exec(compile(source, name, "exec"), vars(module))
    return module


# Mutants that compute the same gradient, or one that nothing can tell from it.

EQUIVALENT = {
    "leaky_relu_backward: to GtE: out > 0": "differs at out = 0 only, where both are subgradients",
}
ALL = [pytest.param(s, mutant, id=mutant.name) for s in SUBJECTS for mutant in mutants(s)]


def reports(subject, mutant):
    return subject.check(load("mutant", mutant.source))


@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.function)
def test_unchanged_code_passes(subject):
    module = importlib.import_module(subject.module)
    assert [report.verdict for report in subject.check(module)].count("PASS") > 0
    assert all(subject.check(module))


@pytest.mark.parametrize(("subject", "mutant"), ALL)
def test_mutant_is_killed(subject, mutant):
    try:
        found = any(report.verdict == "FAIL" for report in reports(subject, mutant))
    except ConfigurationError:  # it refuses right arguments: nobody could use it
        found = True
    assert found == (mutant.name not in EQUIVALENT), EQUIVALENT.get(mutant.name, mutant.source)


def test_there_are_mutants_of_every_kind():
    changes = {mutant.name.split(": ")[1] for subject in SUBJECTS for mutant in mutants(subject)}
    assert len(ALL) > 150
    assert {"drop .T", "sum to mean", "other axis", "to GtE", "to Lt", "+10 %"} <= changes
    assert set(EQUIVALENT) <= {mutant.name for s in SUBJECTS for mutant in mutants(s)}
