"""Bugs in the backward pass of pooling and convolution."""

import jax.numpy as jnp
import numpy as np

from benchmarks.gradcheck_zoo.row import Bug, autodiff, draw


def _blocks(x):
    """[batch, h, w] -> [batch, h/2, w/2, 4]."""
    batch, height, width = x.shape
    x = x.reshape(batch, height // 2, 2, width // 2, 2).transpose(0, 1, 3, 2, 4)
    return x.reshape(batch, height // 2, width // 2, 4)


def _unblocks(blocks):
    batch, height, width, _ = blocks.shape
    x = blocks.reshape(batch, height, width, 2, 2).transpose(0, 1, 3, 2, 4)
    return x.reshape(batch, 2 * height, 2 * width)


def max_pool(x):
    return _blocks(x).max(-1)


def max_pool_right(dout, x):
    winners = jnp.arange(4)[None, None, None, :] == _blocks(x).argmax(-1)[..., None]
    return (_unblocks(jnp.where(winners, dout[..., None], 0)),)


def _spread(dout, x):
    return (_unblocks(jnp.broadcast_to(dout[..., None] / 4, (*dout.shape, 4))),)


def _to_first(dout, x):
    return (_unblocks(jnp.where(jnp.arange(4)[None, None, None, :] == 0, dout[..., None], 0)),)


# Windows of 3, stride 2, along one axis: neighbours share an entry.


def _windows(x):
    return jnp.arange(0, len(x) - 2, 2)[:, None] + jnp.arange(3)[None, :]


def overlapping_pool(x):
    return x[_windows(x)].max(1)


def _winners(x):
    windows = _windows(x)
    return windows[jnp.arange(len(windows)), x[windows].argmax(1)]


def overlapping_pool_right(dout, x):
    return (jnp.zeros_like(x).at[_winners(x)].add(dout),)


def _overwritten(dout, x):
    return (jnp.zeros_like(x).at[_winners(x)].set(dout),)


# Correlation of [batch, h, w] with a kernel [3, 3], same size, and a bias for each of [channels].


def convolve(x, kernel):
    height, width = x.shape[1:]
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1)))
    out = jnp.zeros_like(x)
    for i in range(3):
        for j in range(3):
            out = out + kernel[i, j] * padded[:, i : i + height, j : j + width]
    return out


def convolve_right(dout, x, kernel):
    return convolve(dout, kernel[::-1, ::-1]), autodiff(convolve)(dout, x, kernel)[1]


def _unflipped(dout, x, kernel):
    return convolve(dout, kernel), convolve_right(dout, x, kernel)[1]


def _row_dropped(dout, x, kernel):
    dx, dkernel = convolve_right(dout, x, kernel)
    return dx.at[:, 0].set(0), dkernel


def channel_bias(x, b):
    return jnp.tanh(x) + b[None, None, None, :]


def channel_bias_right(dout, x, b):
    return dout * (1 - jnp.square(jnp.tanh(x))), dout.sum((0, 1, 2))


# Correlation along one axis: out_i = Σ_k w_k·x_{stride·i + dilation·k}


def _places(size, taps, stride, dilation):
    count = (size - dilation * (taps - 1) - 1) // stride + 1
    return stride * jnp.arange(count)[:, None] + dilation * jnp.arange(taps)[None, :]


def _correlation(stride, dilation):
    def f(x, w):
        return x[_places(len(x), len(w), stride, dilation)] @ w

    def right(dout, x, w, *, stride=stride, dilation=dilation):
        places = _places(len(x), len(w), stride, dilation)[: len(dout)]
        dx = jnp.zeros_like(x).at[places].add(dout[:, None] * w[None, :])
        return dx, autodiff(f)(dout, x, w)[1]

    return f, right


strided, strided_right = _correlation(2, 1)
dilated, dilated_right = _correlation(1, 2)

_IMAGE = draw(40, (2, 4, 6))
_CONVOLVED = draw(41, (2, 5, 6), (3, 3))
_PEAKS = np.array([0.3, -0.2, 1.7, 0.1, -0.6, 0.4, 2.1, 0.9, -0.3, 0.5, 0.2])
_LINE = draw(42, (11,), (3,))
BUGS = (
    Bug("pool spread", "evenly over the window", max_pool, _IMAGE, max_pool_right, _spread),
    Bug("pool to the first", "not to the largest", max_pool, _IMAGE, max_pool_right, _to_first),
    Bug("kernel not flipped", "in dx", convolve, _CONVOLVED, convolve_right, _unflipped),
    Bug(
        "conv bias axis",
        "summed over the batch and one of two spatial axes",
        channel_bias,
        draw(43, (2, 3, 4, 5), (5,)),
        channel_bias_right,
        lambda dout, x, b: (channel_bias_right(dout, x, b)[0], dout[:, :, 0].sum((0, 1))),
    ),
    Bug(
        "padding row",
        "dx of the first row dropped",
        convolve,
        _CONVOLVED,
        convolve_right,
        _row_dropped,
    ),
    Bug(
        "pool overwritten",
        "set for add where windows overlap",
        overlapping_pool,
        (_PEAKS,),
        overlapping_pool_right,
        _overwritten,
    ),
    Bug(
        "stride ignored",
        "in dx",
        strided,
        _LINE,
        strided_right,
        lambda dout, x, w: strided_right(dout, x, w, stride=1),
    ),
    Bug(
        "dilation ignored",
        "in dx",
        dilated,
        _LINE,
        dilated_right,
        lambda dout, x, w: dilated_right(dout, x, w, dilation=1),
    ),
)
