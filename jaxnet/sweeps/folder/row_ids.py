"""Which id each configuration of a job has in a run folder.

An id is given once: the configurations that a folder has rows of keep theirs, new ones come after.
"""

from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from jaxnet.sweeps.folder.identity import Identity, shown
from jaxnet.sweeps.folder.store import Result, RowId
from jaxnet.sweeps.results.rows import Row


def with_results(recorded: Sequence[RowId]) -> Sequence[RowId]:
    """Return the ids up to the last with a result: those that no job may give to another."""
    count = max((i + 1 for i, one in enumerate(recorded) if one.key is not None), default=0)
    return recorded[:count]


@dataclass(frozen=True)
class Extension:
    """The ids of a job's configurations, in its order, and those that it has none for."""

    ids: tuple[int, ...]
    left_out: tuple[int, ...]


def extend(recorded: Sequence[RowId], wanted: Sequence[Identity]) -> Extension:
    """Return how a sweep extends what a folder has: in any order, with new ones anywhere."""
    kept = with_results(recorded)
    free: dict[str, deque[int]] = {}
    for i, one in enumerate(kept):
        free.setdefault(one.configuration, deque()).append(i)
    ids, new = [], len(kept)
    for identity in wanted:
        known = free.get(identity.configuration)
        ids.append(known.popleft() if known else new)
        new += ids[-1] == new
    return Extension(tuple(ids), tuple(sorted(i for left in free.values() for i in left)))


def first_difference(recorded: Sequence[RowId], wanted: Sequence[Identity]) -> int | None:
    """Return the first id at which a search asks for another configuration than before."""
    pairs = enumerate(zip(with_results(recorded), wanted, strict=False))
    return next((i for i, (one, two) in pairs if one.configuration != two.configuration), None)


def record(
    recorded: Sequence[RowId], wanted: Sequence[Identity], results: Collection[str]
) -> list[RowId]:
    """Return what a folder is to have under each id; `wanted` by id, `results` are keys."""
    made = []
    for i, identity in enumerate(wanted):
        asked = (identity.configuration, identity.key, identity.name)
        if identity.key in results:
            made.append(RowId(*asked, identity.key, identity.name))
        elif i < len(with_results(recorded)):  # what it has, until there is what is asked for
            made.append(RowId(*asked, recorded[i].key, recorded[i].network))
        else:
            made.append(RowId(*asked))
    return made


def rows_of(recorded: Sequence[RowId], results: Mapping[str, Result]) -> list[Row]:
    """Return the rows of a folder, by id."""
    found = [
        (i, results[one.key], one.network)
        for i, one in enumerate(recorded)
        if one.key is not None and one.network is not None and one.key in results
    ]
    settings = shown([result.settings for _, result, _ in found])
    return [
        Row(i, own, result.outcome, network)
        for (i, result, network), own in zip(found, settings, strict=True)
    ]
