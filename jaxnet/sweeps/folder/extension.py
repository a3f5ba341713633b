"""Which runs may add to a run folder: those that lose none of its rows, and rename none."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jaxnet.errors import RunFolderError
from jaxnet.sweeps.folder.identity import Identity, shown
from jaxnet.sweeps.folder.row_ids import extend, first_difference, with_results
from jaxnet.sweeps.folder.store import Result, RowId

MOST_NAMED = 6  # settings of a configuration that an error names


class AnotherRun(RunFolderError):
    """A run folder holds a run that this one does not extend."""

    def __init__(self, path: Path, difference: str) -> None:
        super().__init__(
            f"{path} holds another run: {difference}. Choose another folder, let a sweep stand "
            f"beside it (beside=True, --beside), or run with what config.json says"
        )


def check_same(path: Path, stored: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Raise AnotherRun unless two configs are of the same data, split and versions."""
    for part in ("data", "versions"):
        if (difference := _difference(stored.get(part), wanted[part], part)) is not None:
            raise AnotherRun(path, difference)


def check_ends(path: Path, stored: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Raise AnotherRun where a job would end the networks of a folder earlier than before."""
    old, new = stored["job"], wanted["job"]
    names = ["stop"]
    if new.get("stop") is not None:
        names.append("evaluations")  # at which it stops
    before = old.get("steps", 0)
    if not isinstance(before, int) or new["steps"] < before:
        raise AnotherRun(path, f"steps was {before!r}, now is {new['steps']}")
    if new["steps"] > before:
        names.append("halving")  # which cuts at a share of the steps
    for name in names:
        if (difference := _difference(old.get(name), new.get(name), name)) is not None:
            raise AnotherRun(path, difference)


def ids_of(
    path: Path,
    recorded: Sequence[RowId],
    wanted: Sequence[Identity],
    results: Callable[[], Sequence[Result]],
) -> tuple[int, ...]:
    """Return the ids of a sweep's configurations, in its order; AnotherRun if it lacks a row's."""
    found = extend(recorded, wanted)
    if found.left_out:
        first, count = found.left_out[0], len(found.left_out)
        others = f", nor are {count - 1} more" if count > 1 else ""
        raise AnotherRun(
            path,
            f"its configuration {first}{_named(recorded[first], wanted, results)} is not in this "
            f"one{others}",
        )
    return found.ids


def check_search(
    path: Path,
    recorded: Sequence[RowId],
    wanted: Sequence[Identity],
    trials: int,
    results: Callable[[], Sequence[Result]],
) -> None:
    """Raise AnotherRun unless a search asks again for what a folder has, in its order, to its end.

    `trials` is how many configurations it comes to.
    """
    count = len(with_results(recorded))
    if trials < count:
        raise AnotherRun(
            path, f"it has {count} configurations, and this search ends after {trials}"
        )
    first = first_difference(recorded, wanted)
    if first is not None:
        raise AnotherRun(
            path,
            f"its configuration {first}{_named(recorded[first], wanted[first:], results)} is not "
            f"what the sampler asks for there (a sampler without a seed never asks for the same)",
        )


def _named(one: RowId, wanted: Sequence[Identity], results: Callable[[], Sequence[Result]]) -> str:
    """Return the settings of a row that differ from the first row that is wanted."""
    stored = next((result.settings for result in results() if result.key == one.key), {})
    stored, other = shown([stored, wanted[0].settings if wanted else {}])
    own = [f"{name} {stored[name]}" for name in stored if stored[name] != other.get(name)]
    return f" ({', '.join(own[:MOST_NAMED])})" if own else ""


def _difference(stored: Any, wanted: Any, name: str) -> str | None:
    """Return a sentence on the first difference of two JSON values, None if there is none."""
    if isinstance(stored, dict) and isinstance(wanted, dict):
        for key in [*wanted, *(key for key in stored if key not in wanted)]:
            inner = _difference(stored.get(key), wanted.get(key), f"{name}.{key}")
            if inner is not None:
                return inner
        return None
    return None if stored == wanted else f"{name} was {stored!r}, now is {wanted!r}"
