"""A sweep over many nodes, on paper and simulated: chunks, failures, and one driver that writes.

A chunk of K networks is a task: a node trains it in a + b·K seconds a step, sends its results, and
the driver alone commits them, d + w·K seconds a chunk. A node that fails begins its chunk anew.
"""

import heapq
import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Cluster:
    """What decides how long it takes; seconds and bytes, of one node or of the driver."""

    step_fixed: float  # a step of a chunk, whatever its size
    step_each: float  # a step, for each network of it
    steps: int
    compile: float  # on each node, once
    commit_fixed: float  # the driver, for each chunk: task, message, transaction
    commit_each: float  # the driver, for each network
    result_bytes: float = 0.0  # of one network, to the driver
    data_bytes: float = 0.0  # of the data set, to each node
    bandwidth: float = math.inf  # of the driver's network, bytes a second
    failures: float = 0.0  # of one node, a second
    recovery: float = 0.0  # seconds until a failed node is back: start, data, compilation
    start: float = 0.0  # seconds until a node is there at all
    price: float = 0.0  # of a node, an hour

    def attempt(self, chunk: int) -> float:
        """Return the seconds of a chunk on a node, in which nothing fails: T = steps·(a + b·K)."""
        return self.steps * (self.step_fixed + self.step_each * chunk)

    def chunk(self, chunk: int) -> float:
        """Return the expected seconds of a chunk with what fails: (1/λ + R)·(e^λT − 1).

        Failures are a Poisson process of rate λ; each loses what the chunk has come to and R
        seconds. For λT ≪ 1 that is T + λT·(T/2 + R).
        """
        exponent = self.failures * self.attempt(chunk)
        if exponent == 0:
            return self.attempt(chunk)
        return (1 / self.failures + self.recovery) * math.expm1(exponent)

    def driver(self, chunk: int) -> float:
        """Return the seconds of the driver for a chunk: message, and commit."""
        arriving = chunk * self.result_bytes / self.bandwidth
        return self.commit_fixed + chunk * self.commit_each + arriving

    def ready(self, nodes: int) -> float:
        """Return the seconds until nodes train: there, data shipped, compiled.

        Each node that has the data gives them to another: ⌈log₂(n + 1)⌉ rounds.
        """
        rounds = math.ceil(math.log2(nodes + 1))
        return self.start + rounds * self.data_bytes / self.bandwidth + self.compile


@dataclass(frozen=True)
class Forecast:
    """What a sweep of so many networks takes, and what binds it."""

    seconds: float
    per_second: float
    cost: float
    limit: str
    most_nodes: int  # beyond which the driver, or the number of chunks, stops it

    @property
    def hours(self) -> float:
        """The seconds as hours."""
        return self.seconds / 3600


def forecast(cluster: Cluster, networks: int, nodes: int, chunk: int) -> Forecast:
    """Return the paper's answer: the slowest of nodes, driver and waves of chunks.

    Nodes finish n chunks every T, the driver one every d; C chunks take ⌈C/n⌉ waves on n nodes:
        max(⌈C/n⌉·T + d, T + C·d) + the time until all is ready.
    """
    chunks = math.ceil(networks / chunk)
    each, commit = cluster.chunk(chunk), cluster.driver(chunk)
    waves = math.ceil(chunks / nodes)
    train, write = waves * each + commit, each + chunks * commit
    seconds = cluster.ready(nodes) + max(train, write)
    limit = "driver" if write > train else "nodes"
    if limit == "nodes" and waves * nodes > 1.2 * chunks:
        limit = "chunks"  # more than a sixth of the places of the waves are empty
    if limit != "driver" and cluster.ready(nodes) > 0.5 * seconds:
        limit = "start"
    most = min(chunks, max(1, math.floor(each / commit))) if commit else chunks
    cost = nodes * seconds / 3600 * cluster.price
    return Forecast(seconds, networks / seconds, cost, limit, most)


def simulate(cluster: Cluster, networks: int, nodes: int, chunk: int, seed: int = 0) -> float:
    """Return the seconds of one course of events: failures drawn, the driver a queue of one.

    A node takes its next chunk as soon as it has sent the last one; a chunk lost to a failure goes
    back to the queue's end.
    """
    generator = np.random.default_rng(seed)
    waiting = [min(chunk, networks - begun) for begun in range(0, networks, chunk)][::-1]
    free = [(cluster.ready(nodes), node) for node in range(nodes)]
    heapq.heapify(free)
    arriving: list[tuple[float, int]] = []  # (when, size) of what the driver is to commit
    busy: list[tuple[float, int]] = []  # (when, size) of chunks that will be lost
    while waiting or busy:
        if not waiting:  # all are in training: one of these will be lost, and is begun again
            when, size = heapq.heappop(busy)
            waiting.append(size)
            now, node = heapq.heappop(free)
            heapq.heappush(free, (max(now, when), node))
        now, node = heapq.heappop(free)
        while busy and busy[0][0] <= now:
            waiting.insert(0, heapq.heappop(busy)[1])
        size = waiting.pop()
        takes = cluster.attempt(size)
        fails = generator.exponential(1 / cluster.failures) if cluster.failures else math.inf
        if fails < takes:
            heapq.heappush(busy, (now + fails, size))
            heapq.heappush(free, (now + fails + cluster.recovery, node))
        else:
            heapq.heappush(arriving, (now + takes, size))
            heapq.heappush(free, (now + takes, node))
    done = 0.0
    while arriving:
        when, size = heapq.heappop(arriving)
        done = max(done, when) + cluster.driver(size)
    return done


def best_chunk(cluster: Cluster, networks: int, nodes: int, largest: int) -> int:
    """Return the chunk of 1, 2, 4, ... that a forecast is shortest for; of equals the larger."""
    sizes = [2**k for k in range(int(math.log2(largest)) + 1)]
    return min(sizes, key=lambda size: (forecast(cluster, networks, nodes, size).seconds, -size))
