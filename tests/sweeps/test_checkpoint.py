"""A stack comes back bit by bit, a file that is none is no harm, and a half one cannot be."""

import contextlib
import json
import os
import resource

import jax
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from jaxnet import configure
from jaxnet.errors import RunFolderError
from jaxnet.sweeps.folder import checkpoint as checkpoint_module
from jaxnet.sweeps.folder.checkpoint import Checkpoint, find_stacks, restore
from jaxnet.sweeps.stacks.prepared import prepare, shapes_of
from jaxnet.sweeps.stacks.stack import Stack
from jaxnet.sweeps.stacks.timetable import Timetable
from jaxnet.training.layout import Layout
from jaxnet.training.program import Program

STEPS = 12
TIMETABLE = Timetable(STEPS, (3, 6, 9, 12), 1)
# Two that train, one that diverges within some steps; adam has a state to keep.
MEMBERS = [
    configure(hidden=[5], batch_size=10, optimizer="adam", learning_rate=rate, seed=7)
    for rate in (0.1, 1e30, 0.01)
]
KEYS = ["a", "b", "c"]


@pytest.fixture(scope="module")
def prepared(data):
    return prepare(data.split(40), MEMBERS[0].structure, shapes_of(data))


def start(prepared, members=MEMBERS, size=4):
    program = Program(members[0].structure, prepared.shapes, Layout(size=size))
    return Stack.start(program, members, prepared, TIMETABLE, until=STEPS)


def train(stack):
    for _ in stack.train():
        pass


@pytest.fixture
def stack(prepared):
    """Trained for some steps, and stopped there."""
    return stopped_at(start(prepared), 7)


def stopped_at(stack, step):
    """Train to a step: leave the loop at the first safe point after it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jaxnet.sweeps.stacks.stack.SECONDS_PER_CALL", 1e-9)
        for _ in stack.train():
            if stack.step >= step:
                break
    assert step <= stack.step < STEPS
    return stack


def make(prepared):
    def make(kept, tensors):
        assert kept.keys == KEYS
        program = kept.program(MEMBERS[0].structure, prepared.shapes)
        return Stack.restored(program, MEMBERS, prepared, TIMETABLE, tensors=tensors)

    return make


def only(folder):
    (kept,) = find_stacks(folder)
    return kept


def assert_same(one, other):
    """Everything that a stack holds, in every bit: NaN and −0 too."""
    ours, theirs = one.tensors(), other.tensors()
    assert ours.keys() == theirs.keys()
    for name, a in ours.items():
        a, b = np.asarray(a), np.asarray(theirs[name])
        assert (a.dtype, a.shape) == (b.dtype, b.shape), name
        assert a.tobytes() == b.tobytes(), name


@pytest.fixture
def checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint_module, "INTERVAL", 0.0)
    return Checkpoint(tmp_path, KEYS)


def test_a_stack_comes_back_bit_by_bit(checkpoint, stack, prepared):
    checkpoint.save(stack)
    kept = only(checkpoint.path.parent)
    assert (kept.keys, kept.hidden, kept.layout) == (KEYS, (5,), Layout(size=4))
    assert (kept.step, kept.end, kept.in_flight) == (stack.step, STEPS, True)
    restored = restore(kept, make(prepared))
    assert_same(restored, stack)
    assert restored.running.tolist() == stack.running.tolist() == [0, 2]


def test_a_stack_that_came_back_trains_on_as_if_nothing_had_been(checkpoint, stack, prepared, said):
    """To the last bit, also of what had happened before."""
    straight = start(prepared)
    train(straight)
    checkpoint.save(stack)
    restored = restore(only(checkpoint.path.parent), make(prepared))
    train(restored)
    assert [said(one) for one in restored.outcomes()] == [said(one) for one in straight.outcomes()]
    assert [one.kind for one in restored.outcomes()] == ["ok", "diverged", "ok"]
    for k in (0, 2):
        ours, theirs = restored.member(k), straight.member(k)
        jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_float64_comes_back_as_float64(data, tmp_path):
    settings = {"hidden": [5], "batch_size": 10, "precision": "float64"}
    members = [configure(learning_rate=rate, **settings) for rate in (0.1, 0.01)]
    prepared = prepare(data.split(40), members[0].structure, shapes_of(data))
    stack = stopped_at(start(prepared, members, size=2), 5)
    Checkpoint(tmp_path, KEYS[:2]).save(stack, now=True)
    kept = only(tmp_path)
    program = kept.program(members[0].structure, prepared.shapes)
    assert program.layout == Layout(size=2)
    restored = restore(
        kept,
        lambda kept, tensors: Stack.restored(
            program, members, prepared, TIMETABLE, tensors=tensors
        ),
    )
    assert restored.state.members.params["affine_1"]["w"].dtype == np.float64
    assert_same(restored, stack)


def test_what_came_back_is_written_into(checkpoint, stack, prepared):
    """The arrays of a file are read-only; a record is not."""
    checkpoint.save(stack)
    restored = restore(only(checkpoint.path.parent), make(prepared))
    for array in [*restored.record.arrays.values(), *restored.ended.values(), restored.columns]:
        assert array.flags.writeable


def test_an_array_is_stored_by_its_axes_and_not_as_it_lies_in_memory(checkpoint, stack, prepared):
    """safetensors takes the bytes as they lie."""
    turned = np.asfortranarray(stack.record.arrays["loss"])
    assert not turned.flags.c_contiguous
    stack.record.arrays["loss"] = turned
    checkpoint.save(stack)
    restored = restore(only(checkpoint.path.parent), make(prepared))
    np.testing.assert_array_equal(restored.record.arrays["loss"], turned)


def test_nothing_stored_nothing_found(checkpoint):
    assert list(find_stacks(checkpoint.path.parent)) == []


def test_the_later_stack_replaces_the_earlier(checkpoint, prepared):
    stack = stopped_at(start(prepared), 4)
    checkpoint.save(stack)
    stopped_at(stack, 8)
    checkpoint.save(stack)
    assert only(checkpoint.path.parent).step == stack.step >= 8
    assert os.listdir(checkpoint.path.parent) == [checkpoint.path.name]


def test_stacks_of_other_configurations_are_other_files(tmp_path, stack):
    for keys in (["a", "b", "c"], ["a", "b"], ["c", "b", "a"]):
        Checkpoint(tmp_path, keys).save(stack, now=True)
    assert sorted(kept.keys for kept in find_stacks(tmp_path)) == [
        ["a", "b"],
        ["a", "b", "c"],
        ["c", "b", "a"],
    ]


def test_a_stack_is_stored_only_after_the_interval(tmp_path, stack, monkeypatch):
    now, written = 1000.0, []
    monkeypatch.setattr("time.monotonic", lambda: now)
    assert checkpoint_module.INTERVAL == 30.0
    monkeypatch.setattr(checkpoint_module, "write_tensors", lambda *given: written.append(now))
    checkpoint = Checkpoint(tmp_path, KEYS)
    checkpoint.save(stack)
    assert written == []  # the run has just begun
    now += 29.9
    checkpoint.save(stack)
    assert written == []
    now += 0.2
    checkpoint.save(stack, False)
    assert written == [now]
    now += 29.9
    checkpoint.save(stack)
    assert len(written) == 1
    checkpoint.save(stack, now=True)
    assert len(written) == 2
    now += 29.9  # counted from the last time it was stored
    checkpoint.save(stack)
    assert len(written) == 2


def test_what_is_removed_is_forgotten(checkpoint, stack):
    checkpoint.remove()  # nothing there: nothing to do
    checkpoint.save(stack)
    checkpoint.remove()
    assert os.listdir(checkpoint.path.parent) == []


# Files that cannot be used only ever cost time: they are removed, and trained again


def stored(checkpoint, stack):
    """Return tensors and metadata of the stack's file."""
    checkpoint.save(stack)
    with safe_open(checkpoint.path, framework="numpy") as file:
        return load_file(checkpoint.path), file.metadata()


@pytest.mark.parametrize(
    "change",
    [
        lambda t: {"state.members.params['affine_1']['w']": np.zeros((12, 4, 6), np.float32)},
        lambda t: {"state.members.params['affine_1']['w']": np.zeros((12, 4, 5), np.float64)},
        lambda t: {"state.step": np.array(3, np.float32)},
        lambda t: {"record['loss']": np.zeros((STEPS + 1, 3), np.float32)},
        lambda t: {"record['loss']": None},
        lambda t: {"columns": None},
        lambda t: {"span": None},
        lambda t: {"ended/diverged_at": None},
    ],
    ids=["another shape", "another dtype", "a step of float", "record", *["less"] * 4],
)
def test_a_stack_of_other_arrays_is_removed(checkpoint, stack, prepared, change):
    tensors, about = stored(checkpoint, stack)
    changed = change(tensors)
    assert changed.keys() <= tensors.keys()
    tensors = {name: a for name, a in {**tensors, **changed}.items() if a is not None}
    save_file(tensors, checkpoint.path, about)
    assert restore(only(checkpoint.path.parent), make(prepared)) is None
    assert os.listdir(checkpoint.path.parent) == []


def test_a_stack_of_configurations_that_nobody_knows_is_removed(checkpoint, stack):
    checkpoint.save(stack)

    def unknown(kept, tensors):
        return {}[kept.keys[0]]

    assert restore(only(checkpoint.path.parent), unknown) is None
    assert os.listdir(checkpoint.path.parent) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda about: {"jaxnet stack": "{"},
        lambda about: {},
        lambda about: {"jaxnet stack": json.dumps({**about, "more": 1})},
        lambda about: {"jaxnet stack": json.dumps({n: v for n, v in about.items() if n != "end"})},
        lambda about: {"jaxnet stack": json.dumps({**about, "hidden": None})},
        lambda about: {"jaxnet stack": "[1]"},
    ],
)
def test_a_stack_of_another_version_is_removed(checkpoint, stack, change):
    tensors, about = stored(checkpoint, stack)
    save_file(tensors, checkpoint.path, change(json.loads(about["jaxnet stack"])))
    assert list(find_stacks(checkpoint.path.parent)) == []
    assert os.listdir(checkpoint.path.parent) == []


@pytest.mark.parametrize(
    "content", [b"", b"not tensors", bytes(100)], ids=["empty", "text", "zeros"]
)
def test_a_file_that_is_no_safetensors_is_removed(checkpoint, content):
    checkpoint.path.write_bytes(content)
    assert list(find_stacks(checkpoint.path.parent)) == []
    assert not checkpoint.path.exists()


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_truncated_file_is_removed(checkpoint, stack, prepared, share):
    checkpoint.save(stack)
    whole = checkpoint.path.read_bytes()
    checkpoint.path.write_bytes(whole[: int(len(whole) * share)])
    assert list(find_stacks(checkpoint.path.parent)) == []
    assert not checkpoint.path.exists()
    # The same between the two looks at the file.
    checkpoint.save(stack)
    kept = only(checkpoint.path.parent)
    checkpoint.path.write_bytes(whole[: int(len(whole) * share)])
    assert restore(kept, make(prepared)) is None
    assert not checkpoint.path.exists()


def test_other_files_of_the_folder_are_left_alone(checkpoint):
    for name in ("best.safetensors", "stack.txt", "stack-1.safetensors.partial"):
        (checkpoint.path.parent / name).write_bytes(b"mine")
    assert list(find_stacks(checkpoint.path.parent)) == []
    assert len(os.listdir(checkpoint.path.parent)) == 3


# Whole or not at all


@contextlib.contextmanager
def a_full_disk():
    """No file may grow beyond 100 bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_on_a_full_disk_the_old_stack_is_whole(checkpoint, stack, prepared):
    checkpoint.save(stack)
    before = {name: np.copy(array) for name, array in stack.tensors().items()}
    stopped_at(stack, 10)
    with a_full_disk(), pytest.raises(RunFolderError, match=r"cannot write .*stack-"):
        checkpoint.save(stack)
    restored = restore(only(checkpoint.path.parent), make(prepared))
    for name, array in restored.tensors().items():
        np.testing.assert_array_equal(array, before[name])
    checkpoint.save(stack)  # and what is left over is no hindrance
    assert_same(restore(only(checkpoint.path.parent), make(prepared)), stack)


@pytest.mark.parametrize("fault", [KeyboardInterrupt(), OSError("I/O error")], ids=repr)
def test_cut_before_it_is_in_place_the_old_stack_is_whole(
    checkpoint, stack, prepared, monkeypatch, fault
):
    checkpoint.save(stack)
    first = stack.step

    def fail(*arguments):
        raise fault

    stopped_at(stack, 10)
    with monkeypatch.context() as patch:
        patch.setattr("os.replace", fail)
        with pytest.raises(RunFolderError if isinstance(fault, OSError) else KeyboardInterrupt):
            checkpoint.save(stack)
    assert restore(only(checkpoint.path.parent), make(prepared)).step == first < stack.step
    checkpoint.save(stack)
    assert_same(restore(only(checkpoint.path.parent), make(prepared)), stack)
    assert os.listdir(checkpoint.path.parent) == [checkpoint.path.name]


def test_a_folder_that_is_gone_is_an_error_of_the_run_folder(tmp_path, stack):
    """safetensors raises an error of its own, which is no OSError."""
    checkpoint = Checkpoint(tmp_path / "gone", KEYS)
    with pytest.raises(RunFolderError, match=r"cannot write .*stack.*No such file"):
        checkpoint.save(stack, now=True)


def test_the_file_is_safetensors_that_others_can_read(checkpoint, stack):
    tensors, about = stored(checkpoint, stack)
    assert json.loads(about["jaxnet stack"])["keys"] == KEYS
    assert tensors["state.members.params['affine_1']['w']"].shape == (12, 4, 5)
    assert tensors["record['loss']"].shape == (STEPS, 3)
