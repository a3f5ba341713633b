"""Minibatches that go through all images once an epoch: the order is computed, never stored.

A stored order would be state for every seed and every epoch. Here a keyed permutation maps each
position in the epoch to an image, and is computed only for the positions of one minibatch. It is a
Feistel network, which is one-to-one for any round function (Luby & Rackoff 1988, "How to construct
pseudorandom permutations from pseudorandom functions"). A Feistel network permutes numbers of an
even number of bits; it is applied again until the result is the number of an image (Black & Rogaway
2002, "Ciphers with arbitrary finite domains"). Mitchell et al. 2022, "Bandwidth-optimal random
shuffling for GPUs", shuffle in the same way.

To draw 500 of 49,000 images takes 22 µs on a CPU, as with replacement. It takes 80 µs if the number
of images is just above a power of 4, where most repetitions are needed.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Int32, PRNGKeyArray, UInt32

ROUNDS = 12
"""Rounds of the Feistel network. Few images need many rounds, as a round changes half of the bits.

The distance of the 24 orders of 4 images from equal frequencies halves with each round: it is 0.02
in total variation at 6 rounds, and 0.0003 at 12. Over 300,000 seeds, a chi-square test of the
positions of two of 5 images finds a deviation at 10 rounds, and none at 12. One deviation stays: on
4 bits and more, every Feistel network is an even permutation, so 16 images never have an odd order.
"""


def shuffled_rows(
    key: PRNGKeyArray, step: Int32[Array, ""], examples: Int32[Array, ""], *, batch_size: int
) -> Int32[Array, "batch"]:
    """Return the rows of minibatch `step`, of which every epoch has each of `examples` once.

    rowᵢ = π_e(q), with e, q = divmod(step·batch_size + i, examples), i = 0, …, batch_size − 1;
    π_e, the order of epoch e, is a permutation of 0, …, examples − 1 drawn from key and e:

        π_e(q) = E(…E(q)), applied at least once and until the result is below examples;
        E(L, R): (L, R) ← (R, L ⊕ mix(R ⊕ key_j)), j = 1, …, ROUNDS, on two halves of h bits,
        4^h the first power of 4 that is ≥ examples, and ≥ 4.

    A minibatch continues into the next epoch, or into several, so that none is short and no image
    is left out. The result depends on the arguments alone; step and examples may be traced.

    >>> key, steps = jax.random.key(0), jnp.arange(4, dtype=jnp.int32)
    >>> rows = [shuffled_rows(key, step, jnp.int32(6), batch_size=3).tolist() for step in steps]
    >>> sorted(rows[0] + rows[1]), sorted(rows[2] + rows[3])
    ([0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5])
    """
    n = examples.astype(jnp.uint32)
    epochs, positions = _positions(step.astype(jnp.uint32), n, batch_size)
    first = epochs[0]

    # A loop over the epochs of this minibatch, nearly always one or two. Round keys for each
    # position would take several times as long as everything here.
    def add(i, rows):
        epoch = first + i.astype(jnp.uint32)
        return jnp.where(
            epochs == epoch, _order(jax.random.fold_in(key, epoch), positions, n), rows
        )

    count = (epochs[-1] - first).astype(jnp.int32) + 1
    return lax.fori_loop(jnp.int32(0), count, add, positions).astype(jnp.int32)


def _positions(
    step: UInt32[Array, ""], n: UInt32[Array, ""], batch_size: int
) -> tuple[UInt32[Array, "batch"], UInt32[Array, "batch"]]:
    """Return epoch (modulo 2³²) and position in it of step·batch_size + i, which may reach 2⁶²."""
    batch = jnp.uint32(batch_size)
    epoch, position = _product_over(step, batch % n, n)
    position = position + jnp.arange(batch_size, dtype=jnp.uint32)  # both below 2³¹
    return epoch + step * (batch // n) + position // n, position % n


def _product_over(
    a: UInt32[Array, ""], b: UInt32[Array, ""], n: UInt32[Array, ""]
) -> tuple[UInt32[Array, ""], UInt32[Array, ""]]:
    """Return divmod(a·b, n) for b < n < 2³¹, the quotient modulo 2³², without forming a·b.

    For each bit of a, from the highest, quotient and remainder are doubled; b is added if it is 1.
    """

    def carry(quotient, remainder):  # for a remainder below 2n
        over = remainder >= n
        return jnp.where(over, quotient + 1, quotient), jnp.where(over, remainder - n, remainder)

    def add_bit(i, so_far):
        quotient, remainder = so_far
        bit = a >> (jnp.uint32(31) - i.astype(jnp.uint32)) & 1
        quotient, remainder = carry(2 * quotient, 2 * remainder)
        return carry(quotient, remainder + bit * b)

    # Unrolled by 8: on a GPU each iteration launches a kernel, and all 32 would compile slowly.
    return lax.fori_loop(0, 32, add_bit, (jnp.uint32(0), jnp.uint32(0)), unroll=8)


def _order(
    key: PRNGKeyArray, positions: UInt32[Array, "batch"], n: UInt32[Array, ""]
) -> UInt32[Array, "batch"]:
    """Return the rows at these positions of one epoch, whose order `key` draws.

    E is a permutation of 4^h ≥ n numbers. A walk along one of its cycles that starts below n comes
    back below n, at the latest at its start, and two walks never end at the same number. So the
    walks permute the n numbers.
    """
    keys = jax.random.bits(key, (ROUNDS,), jnp.uint32)
    bits = jnp.uint32(32) - lax.clz(n - 1)
    half = jnp.maximum((bits + 1) // 2, 1)
    # Outside of the walk, which would compute it again each time.
    mask = (jnp.uint32(1) << half) - 1

    def walk(state):
        rows, outside = state
        rows = jnp.where(outside, _feistel(rows, keys, half, mask), rows)
        return rows, rows >= n

    def any_outside(state):
        return state[1].any()

    rows, _ = lax.while_loop(any_outside, walk, (positions, jnp.ones(positions.shape, bool)))
    return rows


def _feistel(
    x: UInt32[Array, "batch"],
    keys: UInt32[Array, "rounds"],
    half: UInt32[Array, ""],
    mask: UInt32[Array, ""],
) -> UInt32[Array, "batch"]:
    """Return E(x), both of 2·half bits: the Feistel network with these keys; mask = 2^half − 1."""
    left, right = x >> half, x & mask
    for key in keys:
        left, right = right, left ^ (_mix(right ^ key) & mask)
    return left << half | right


def _mix(x: UInt32[Array, "batch"]) -> UInt32[Array, "batch"]:
    """Return the finalizer of MurmurHash3 (Appleby): every bit of it depends on every bit of x."""
    x = (x ^ x >> 16) * jnp.uint32(0x85EBCA6B)
    x = (x ^ x >> 13) * jnp.uint32(0xC2B2AE35)
    return x ^ x >> 16
