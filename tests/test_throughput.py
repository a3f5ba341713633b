"""The model of a cluster against itself, simulated, and against what is known of queues."""

import dataclasses
import math

import numpy as np
import pytest

from benchmarks.cluster import Cluster, best_chunk, forecast, simulate
from benchmarks.throughput import line

NODE = Cluster(
    step_fixed=1e-3, step_each=1e-4, steps=100, compile=5.0, commit_fixed=0, commit_each=0
)


def test_a_node_alone_takes_its_chunks_one_after_another():
    assert NODE.attempt(40) == pytest.approx(0.5)
    assert forecast(NODE, 400, 1, 40).seconds == pytest.approx(5 + 10 * 0.5)
    assert simulate(NODE, 400, 1, 40) == pytest.approx(5 + 10 * 0.5)


@pytest.mark.parametrize("nodes", [1, 3, 7, 10, 50])
def test_waves(nodes):
    """Ten chunks on n nodes: as many waves as are needed, the last of them perhaps half empty."""
    expected = 5 + math.ceil(10 / nodes) * 0.5
    assert forecast(NODE, 400, nodes, 40).seconds == pytest.approx(expected)
    assert simulate(NODE, 400, nodes, 40) == pytest.approx(expected)
    assert forecast(NODE, 400, nodes, 40).limit == ("start" if expected < 10 else "nodes")


def test_failures_cost_what_renewal_theory_says():
    """Mean time of a chunk over many: (1/λ + R)·(e^λT − 1)."""
    frail = dataclasses.replace(NODE, failures=1.0, recovery=2.0, compile=0.0)
    chunks = 4000
    taken = simulate(frail, 40 * chunks, 1, 40)
    mean = (1 + 2) * (math.exp(0.5) - 1)
    assert frail.chunk(40) == pytest.approx(mean)
    # Attempts before success are geometric, of p = e^-0.5: their deviation is 1.0 a chunk, and each
    # lost one costs some 2.2 s. Four standard errors.
    assert taken / chunks == pytest.approx(mean, abs=4 * 2.3 * 1.0 / math.sqrt(chunks))
    small = dataclasses.replace(NODE, failures=1e-3, recovery=2.0)  # the first-order formula
    assert small.chunk(40) == pytest.approx(0.5 + 1e-3 * 0.5 * (0.25 + 2), rel=1e-4)


def test_the_driver_binds_beyond_the_node_number_that_the_model_names():
    slow = dataclasses.replace(NODE, commit_fixed=0.01, commit_each=1e-3, compile=0.0)
    assert slow.driver(40) == pytest.approx(0.05)
    assert forecast(slow, 40_000, 1, 40).most_nodes == 10  # T / d
    rates = {}
    for nodes in (5, 9, 20, 100):
        paper, simulated = forecast(slow, 40_000, nodes, 40), simulate(slow, 40_000, nodes, 40)
        assert paper.seconds == pytest.approx(simulated, rel=0.02)
        assert paper.limit == ("driver" if nodes > 10 else "nodes")
        rates[nodes] = paper.per_second
    assert rates[9] == pytest.approx(9 / 5 * rates[5], rel=0.02)
    assert rates[100] == pytest.approx(rates[20])
    assert rates[100] == pytest.approx(40 / 0.05, rel=0.02)


def test_all_of_it_together_agrees_with_the_simulation():
    """Where nodes, driver, failures and waves meet, the paper is within a tenth of the events."""
    whole = Cluster(1e-3, 1e-4, 100, 5.0, 0.01, 1e-4, 1e4, 1e8, 1e8, 0.02, 10.0, 20.0, 3.0)
    for nodes in (1, 4, 16, 64):
        paper = forecast(whole, 20_000, nodes, 40)
        runs = [simulate(whole, 20_000, nodes, 40, seed) for seed in range(5)]
        assert paper.seconds == pytest.approx(np.median(runs), rel=0.1)
        assert paper.cost == pytest.approx(nodes * paper.hours * 3)


def test_data_are_shipped_in_rounds():
    shipping = dataclasses.replace(NODE, data_bytes=10.0, bandwidth=1.0)
    assert [shipping.ready(n) - 5 for n in (1, 2, 3, 4, 1023)] == [10, 20, 20, 30, 100]


def test_the_best_chunk_is_no_worse_than_any():
    slow = dataclasses.replace(NODE, commit_fixed=0.01)
    for nodes in (1, 8, 64):
        chosen = best_chunk(slow, 10_000, nodes, 1024)
        best = forecast(slow, 10_000, nodes, chosen).seconds
        assert all(best <= forecast(slow, 10_000, nodes, 2**k).seconds for k in range(11))
    assert best_chunk(slow, 10_000, 64, 1024) < best_chunk(slow, 10_000, 1, 1024)


def test_a_line_through_points():
    assert line({10: 1.2, 100: 3.0, 1000: 21.0}) == pytest.approx((1.0, 0.02))
    assert line({10: 0.05, 100: 1.0}) == pytest.approx((0.0, 0.0075))  # no negative time
