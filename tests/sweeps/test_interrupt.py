"""Ctrl-C is never lost: noted at once, raised at the next safe place, with the chunk kept."""

import signal
import threading

import pytest

from jaxnet.data import load
from jaxnet.host.interrupt import Interrupt
from jaxnet.sweeps import grid
from jaxnet.sweeps.folder.checkpoint import find_stacks
from jaxnet.sweeps.folder.store import Store
from jaxnet.verbs import sweep


def press_ctrl_c():
    signal.raise_signal(signal.SIGINT)


def test_the_first_press_is_noted_and_the_second_raises():
    with Interrupt() as interrupt:
        interrupt.check()
        press_ctrl_c()
        with pytest.raises(KeyboardInterrupt):
            interrupt.check()
        with pytest.raises(KeyboardInterrupt):
            press_ctrl_c()


def test_the_handler_before_is_put_back():
    before = signal.getsignal(signal.SIGINT)
    with Interrupt():
        assert signal.getsignal(signal.SIGINT) != before
    assert signal.getsignal(signal.SIGINT) == before
    with pytest.raises(KeyboardInterrupt):
        press_ctrl_c()


def test_a_program_with_a_handler_of_its_own_keeps_it():
    presses = []
    before = signal.signal(signal.SIGINT, lambda *_: presses.append(1))
    try:
        with Interrupt() as interrupt:
            press_ctrl_c()
            interrupt.check()
        assert presses == [1]
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_handle_no_signals():
    failures = []

    def run():
        try:
            with Interrupt() as interrupt:
                interrupt.check()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert failures == []


def test_the_chunk_in_flight_is_kept_to_the_step(tmp_path, monkeypatch, outcomes):
    """Though no interval of the checkpoint has passed, the run goes on from where it stopped."""
    space = grid(learning_rate=[0.1, 0.01], hidden=[[6]], batch_size=20)
    data, out = load("fashion-mnist-mini"), tmp_path / "run"
    whole = sweep(space, data, steps=40)

    calls = []

    def advance(self, work):
        calls.append(work)
        if len(calls) == 6:
            press_ctrl_c()

    with monkeypatch.context() as patch:
        patch.setattr("jaxnet.host.progress.Reporter.advance", advance)
        with pytest.raises(KeyboardInterrupt):
            sweep(space, data, steps=40, out=out)
    (kept,) = find_stacks(out)
    assert kept.in_flight
    assert 0 < kept.step < kept.end == 40
    made = sum(calls)

    calls.clear()
    monkeypatch.setattr(
        "jaxnet.host.progress.Reporter.advance", lambda self, work: calls.append(work)
    )
    resumed = sweep(space, data, steps=40, out=out)
    assert calls[0] == made > 0  # the steps made before count as done
    assert outcomes(resumed) == outcomes(whole)
    assert list(find_stacks(out)) == []


def test_pressed_between_two_chunks_nothing_more_is_begun(
    tmp_path, data, monkeypatch, memory_for, trained
):
    memory_for(1)
    real = Store.add

    def add(self, *arguments, **settings):
        press_ctrl_c()
        return real(self, *arguments, **settings)

    monkeypatch.setattr(Store, "add", add)
    space, out = grid(learning_rate=[0.1, 0.01]), tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        sweep(space, data, steps=3, hidden=[5], batch_size=10, out=out)
    assert len(trained) == 1
    with Store(out / "sweep.db") as store:
        assert len(store.results()) == 1
