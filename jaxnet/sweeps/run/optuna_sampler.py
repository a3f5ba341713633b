"""Optuna's samplers and pruners over batches: it proposes many trials, which then train at once.

Optuna (`pip install jaxnet[optuna]`) evaluates one trial a call of the objective, and has no
batched objectives (optuna/optuna #895, #2626, #3047). Its ask-and-tell interface allows for them.
"""

import contextlib
import os
import platform
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from numbers import Number
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxnet.errors import ConfigurationError
from jaxnet.sweeps.results.replicates import replicates as replicates_of
from jaxnet.sweeps.results.rows import Row
from jaxnet.sweeps.run.search import checked_axes
from jaxnet.sweeps.space.space import Distribution, Random, Settings
from jaxnet.sweeps.stacks.stack import Evaluation
from jaxnet.values.identified import Identities
from jaxnet.values.label import label as label_of
from jaxnet.values.library import library_name
from jaxnet.values.named import Named

if TYPE_CHECKING:
    import optuna

OWNER = "jaxnet"  # the user attribute that says which process asked
STATUS = "status"
RETRY = "retry_of"  # the number of the trial whose process was killed
_PROCESS = uuid.uuid4().hex  # a number of a process is given again to another


class OptunaSampler:
    """An Optuna study as a sampler of `search`: asks n trials of it at once, and tells them.

    `space` is a `random_draws`: its distributions become Optuna's, its count is not used. The
    study must maximize; a trial's value is the validation accuracy, of replicates that by which
    settings are ranked (`select`: their "mean" or "median"). A diverged trial is told as FAIL, as
    Optuna does with NaN: its samplers then leave it out, where any number made up for it would
    bend their model. Cut trials are PRUNED, those that stopped early COMPLETE. Each has the user
    attributes `id` and `key` of its row, `status` and `settings`, and the accuracies on the way as
    intermediate values.

    Trials of a batch are asked before any of them is told. TPE spreads them out by
    `TPESampler(constant_liar=True)`, the default from Optuna 5 on: set it in older versions.

    Trials that a killed process of this machine left RUNNING are failed and enqueued, with
    Optuna's own calls: the next `ask` has them. In a run folder they then cost only what is
    missing. A sampler that has no more points, such as `GridSampler`, ends the search. A study goes
    on with the parameters that it began with: others are refused by name.

    A storage does not hold the study's sampler: one with a seed draws the same again
    after a restart, unless you keep it (Optuna's FAQ: pickle); one without a seed does not.

    (The examples here are not run with the others: Optuna need not be installed.)

    >>> optuna.logging.set_verbosity(optuna.logging.WARNING)  # doctest: +SKIP
    >>> study = optuna.create_study(direction="maximize")     # doctest: +SKIP
    >>> sampler = OptunaSampler(study, space)                 # doctest: +SKIP
    >>> search(sampler, trials=100, batch=20)                 # doctest: +SKIP
    """

    def __init__(self, study: "optuna.study.Study", space: Random, *, select: str = "mean") -> None:
        self._optuna = load_optuna()
        _check_study(self._optuna, study)
        self.study, self._select = study, select
        axes = checked_axes("OptunaSampler", space)
        drawn = {name: axis for name, axis in axes.items() if isinstance(axis, Distribution)}
        self._constants = {name: axis for name, axis in axes.items() if name not in drawn}
        self._parameters = {n: _parameter(self._optuna, n, axis) for n, axis in drawn.items()}
        _check_parameters(study, self._parameters)
        self._exhausted = False
        self._open: list[optuna.trial.Trial] = []
        self._reported: dict[int, set[int]] = {}
        self.first_id = 0  # of the row of the first trial in _open
        self._owner = [platform.node(), os.getpid(), _PROCESS]
        for trial in self._trials("RUNNING"):
            if self._left_behind(trial.user_attrs.get(OWNER)):
                self._return(trial.number, trial.params)

    def begin(self, trials: int, replicates: int, *, filed: bool) -> list[Settings]:
        """Return the settings of the trials that are finished, before a search for `trials`.

        Raises ConfigurationError for a pruner that could not judge `replicates`, and for a study
        that has as many trials already where no run folder has their results (`filed`).
        """
        pruner = self.study.pruner
        if replicates > 1 and not isinstance(pruner, self._optuna.pruners.NopPruner):
            raise ConfigurationError(
                "replicates train one after another, so that a pruner cannot judge their mean on "
                "the way: make the study with pruner=optuna.pruners.NopPruner(), or leave "
                "replicates=1"
            )
        before = [self.settings_of(trial.params) for trial in self.finished]
        if not filed and len(before) >= trials:
            raise ConfigurationError(
                f"the study has {len(before)} trials, and trials={trials} counts those: ask for "
                f"more, or name the run folder (out=) that has their results"
            )
        self.first_id = len(before)
        return before

    def ask(self, count: int) -> list[Settings]:
        """Return the settings of `count` new trials; none where the study's sampler has no more."""
        if self._exhausted or self._is_exhausted():
            return []
        distributions = {name: distribution for name, (distribution, _) in self._parameters.items()}
        asked = []
        for _ in range(count):
            trial = self.study.ask(fixed_distributions=distributions)
            self._open.append(trial)
            trial.set_user_attr(OWNER, self._owner)
            asked.append(self.settings_of(trial.params))
        return asked

    def _is_exhausted(self) -> bool:
        """Whether the study's sampler says that it has no more points; not all can say."""
        ask = getattr(self.study.sampler, "is_exhausted", None)
        return ask is not None and ask(self.study)

    def settings_of(self, parameters: Mapping[str, Any]) -> Settings:
        """Return the settings that a trial's parameters mean, constants included."""
        drawn = {name: value(parameters[name]) for name, (_, value) in self._parameters.items()}
        return {**self._constants, **drawn}

    def tell(self, rows: Sequence[Row]) -> None:
        """Tell the study what became of the trials asked for last."""
        if not self._open:
            return
        each = len(rows) // len(self._open)
        if each * len(self._open) != len(rows) or not rows:
            raise ConfigurationError(
                f"tell: expected the rows of {len(self._open)} trials, as many of each, in the "
                f"order of asking; got {len(rows)}"
            )
        with self._stoppable():
            for i, trial in enumerate(list(self._open)):
                self._tell(trial, rows[i * each : (i + 1) * each])
                self._open.remove(trial)
                self._reported.pop(trial.number, None)
        self.first_id = rows[-1].id + 1

    @contextlib.contextmanager
    def _stoppable(self) -> Iterator[None]:
        """Take note of `study.stop()`, by which samplers say while they are told that they end.

        Outside of `study.optimize` Optuna has nothing to stop, and raises RuntimeError instead.
        """

        def stop() -> None:
            self._exhausted = True

        self.study.stop = stop
        try:
            yield
        finally:
            del self.study.stop  # the method shows again

    def _tell(self, trial: "optuna.trial.Trial", rows: Sequence[Row]) -> None:
        (unit,) = replicates_of(rows)
        states, first = self._optuna.trial.TrialState, rows[0]
        status = ", ".join(row.outcome.status for row in rows)
        attributes = {"id": first.id, "key": first.key, STATUS: status, "settings": first.settings}
        for name, value in attributes.items():
            trial.set_user_attr(name, value)
        self._report_history(trial, rows)
        if not unit.count:
            self.study.tell(trial, state=states.FAIL)
        elif any(not row.whole for row in rows):
            self.study.tell(trial, state=states.PRUNED)
        else:
            self.study.tell(trial, unit.score(self._select))

    def _report_history(self, trial: "optuna.trial.Trial", rows: Sequence[Row]) -> None:
        """Report the accuracies on the way that no callback has: of stored rows, of replicates."""
        steps = [set(row.outcome.history.evaluated.tolist()) for row in rows]
        for step in sorted(set.intersection(*steps)):
            histories = [row.outcome.history for row in rows]
            values = [float(h.val_accuracy[h.evaluated == step][0]) for h in histories]
            if not np.isnan(values).any():
                self.report(trial, _mean(values), step)

    def report(self, trial: "optuna.trial.Trial", value: float, step: int) -> None:
        """Report an intermediate value, once for each step."""
        reported = self._reported.setdefault(trial.number, set())
        if step not in reported:
            trial.report(value, step)
            reported.add(step)

    def prune(self, evaluation: Evaluation) -> list[int]:
        """Report the accuracies of an evaluation; return the ids that the pruner gives up."""
        at = dict(enumerate(self._open, self.first_id))
        here = [(at[id], value) for id, value in _by_id(evaluation) if id in at]
        for trial, value in here:  # all, before any is judged by what the others have
            self.report(trial, value, evaluation.step)
        if evaluation.step == evaluation.steps:
            return []  # it is complete
        pruned = {trial.number for trial, _ in here if trial.should_prune()}
        return [id for id in evaluation.ids if id in at and at[id].number in pruned]

    def release(self) -> None:
        """Give back trials asked for and not told: failed, and enqueued to be asked for again."""
        for trial in self._open:
            self._return(trial.number, trial.params)
        self._open.clear()

    @property
    def finished(self) -> list["optuna.trial.FrozenTrial"]:
        """The trials that were told rows, in this process or before."""
        trials = self._trials("COMPLETE", "PRUNED", "FAIL")
        killed = {trial.user_attrs.get(RETRY) for trial in self.study.get_trials(deepcopy=False)}
        told = [t for t in trials if OWNER in t.user_attrs and STATUS in t.user_attrs]
        return [trial for trial in told if trial.number not in killed]

    def _trials(self, *names: str) -> list["optuna.trial.FrozenTrial"]:
        states = tuple(self._optuna.trial.TrialState[name] for name in names)
        return self.study.get_trials(deepcopy=False, states=states)

    def _return(self, number: int, parameters: dict[str, Any]) -> None:
        state = self._optuna.trial.TrialState.FAIL
        told = self.study.tell(number, state=state, skip_if_finished=True)
        if told.state == state:
            self.study.enqueue_trial(parameters, user_attrs={RETRY: number})

    def _left_behind(self, owner: Any) -> bool:
        """Whether the process that asked for a trial is gone; of another machine: unknown."""
        if not isinstance(owner, list) or len(owner) != 3:
            return False  # not ours
        node, process, token = owner
        if node != platform.node() or token == _PROCESS:
            return False
        if process == os.getpid():
            return True
        if os.name != "posix":
            return False  # there is no way to ask
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass
        return False


def load_optuna() -> ModuleType:
    """Return the module optuna; ConfigurationError where it is not installed."""
    try:
        import optuna
    except ImportError:
        raise ConfigurationError(
            "Optuna is not installed: run pip install 'jaxnet[optuna]'"
        ) from None
    return optuna


def _check_study(optuna: ModuleType, study: Any) -> None:
    if not isinstance(study, optuna.study.Study):
        raise ConfigurationError(
            f"study: expected optuna.create_study(direction='maximize'), got {study!r}"
        )
    names = [direction.name.lower() for direction in study.directions]
    if names != ["maximize"]:
        raise ConfigurationError(
            f"the study's directions are {', '.join(names)}, but the validation accuracy is one "
            f"value to maximize: make it with optuna.create_study(direction='maximize')"
        )


def _check_parameters(study: Any, parameters: Mapping[str, "Parameter"]) -> None:
    """Raise ConfigurationError for a study whose trials have other parameters than a space draws.

    Ranges may change: Optuna allows for that, and so do the trials that were told.
    """
    for trial in study.get_trials(deepcopy=False):
        told = OWNER in trial.user_attrs and STATUS in trial.user_attrs
        where = f"the study has trial {trial.number}"
        for name in parameters if told else ():
            if name not in trial.params:
                raise ConfigurationError(
                    f"{name}: {where} without it: a study goes on with the parameters that it "
                    f"began with, so leave {name} out, or make a new study"
                )
        for name, before in trial.distributions.items():
            if name not in parameters:
                if told:
                    raise ConfigurationError(
                        f"{name}: {where} that draws it, and the space does not: give {name} a "
                        f"range or a choice again, or make a new study"
                    )
                continue
            now, _ = parameters[name]
            same = type(before) is type(now) and getattr(before, "log", 0) == getattr(now, "log", 0)
            if not same or getattr(before, "choices", 0) != getattr(now, "choices", 0):
                raise ConfigurationError(
                    f"{name}: {where} of {before}, and the space draws it of {now}, which Optuna "
                    f"cannot mix in one study: give {name} as it was, or make a new study"
                )


Parameter = tuple[Any, Callable[[Any], Any]]  # an Optuna distribution, and the way back


def _parameter(optuna: ModuleType, name: str, axis: Distribution) -> Parameter:
    """Return Optuna's distribution of an axis, and what makes a setting of its values."""
    distributions, arguments = optuna.distributions, axis.arguments
    if axis.kind == "choice":
        labels = _labels(arguments)
        values = dict(zip(labels, arguments, strict=True))
        if labels == list(arguments):
            return distributions.CategoricalDistribution(labels), lambda value: value
        return distributions.CategoricalDistribution(labels), values.__getitem__
    if axis.kind == "normal":
        mean, deviation = arguments
        low, high = mean - 2 * deviation, mean + 2 * deviation
        raise ConfigurationError(
            f"{name}: Optuna has no normal distribution. Give it a range, such as "
            f"uniform({low:g}, {high:g})"
        )
    kind = distributions.IntDistribution
    if axis.kind.endswith("uniform"):
        kind = distributions.FloatDistribution
    return kind(*arguments, log=axis.kind.startswith("log_")), lambda value: value


def _labels(values: Sequence[Any]) -> list[Any]:
    """Return what stands for the values of a choice in a study's storage: themselves, or texts.

    >>> _labels(["adam", "sgd"]), _labels([[80], [160, 80]])
    (['adam', 'sgd'], ['80', '160-80'])
    """
    simple = all(value is None or isinstance(value, bool | int | float | str) for value in values)
    if simple and len(set(values)) == len({repr(value) for value in values}):  # not 1 and True
        return list(values)
    labels: list[str] = []
    for i, value in enumerate(values):
        if isinstance(value, str | Number | None):
            label = str(value)
        elif isinstance(value, Sequence) and all(isinstance(part, int) for part in value):
            label = "-".join(map(str, value)) or "none"
        elif library_name(value) or isinstance(value, Named):
            label = label_of(value)
        else:  # where the content is another, so is the choice, also in a study that goes on
            found = Identities().identify("a choice", value)
            label = f"{found.label} #{found.fingerprint[-8:]}"
        labels.append(f"{label} ({i})" if label in labels else label)
    return labels


def _by_id(evaluation: Evaluation) -> list[tuple[int, float]]:
    return sorted(zip(evaluation.ids, evaluation.val_accuracy, strict=True))


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))
