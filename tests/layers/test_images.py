"""Layers of images against plain loops, both forms of their sums, and the edges of each."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnet import layers
from jaxnet.errors import ConfigurationError
from jaxnet.kernels import correlation
from jaxnet.kernels.form import changed_form
from jaxnet.training.augmentation import augment

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def looped(x, size, stride, pads, value, reduce):
    """Return reduce(window [*size, channels]) at every place, the border filled with a value."""
    x = np.pad(x, [(0, 0), *pads, (0, 0)], constant_values=value)
    rows, columns = ((n - k) // s + 1 for n, k, s in zip(x.shape[1:3], size, stride, strict=True))
    out = [
        [
            [
                reduce(image[i * stride[0] :, j * stride[1] :][: size[0], : size[1]])
                for j in range(columns)
            ]
            for i in range(rows)
        ]
        for image in x
    ]
    return np.asarray(out)


# kernel, stride, padding, what the padding is
CONVOLUTIONS = [
    ((3, 3), 1, "same", ((1, 1), (1, 1))),
    ((3, 3), 1, "valid", ((0, 0), (0, 0))),  # windows that do not come in pairs, along one axis
    ((3, 3), 1, ((4, 0), (0, 3)), ((4, 0), (0, 3))),  # windows beyond the image
    ((5, 5), 1, "same", ((2, 2), (2, 2))),
    ((1, 1), 1, "same", ((0, 0), (0, 0))),
    ((3, 3), 2, "same", ((1, 1), (0, 1))),  # five rows and six columns: the odd one behind
    ((2, 4), (2, 3), "valid", ((0, 0), (0, 0))),
    ((3, 2), (1, 2), ((0, 2), (1, 0)), ((0, 2), (1, 0))),
    ((1, 1), 2, 1, ((1, 1), (1, 1))),
]


# Few channels: one product; many: one for each kernel row, or 3×3 kernels by neighbours.
FORMS = [(case, channels, False) for case in CONVOLUTIONS for channels in (2, 20)]
FORMS += [(case, 20, True) for case in CONVOLUTIONS if case[:2] == ((3, 3), 1)]


@pytest.mark.parametrize(("case", "channels", "filtered"), FORMS)
def test_convolution_is_the_sum_over_the_window(case, channels, filtered, monkeypatch):
    kernel, stride, padding, pads = case
    if filtered:
        monkeypatch.setattr(correlation, "WINOGRAD_MIN_CHANNELS", 1)
        monkeypatch.setattr(correlation, "WINOGRAD_MIN_MULTIPLICATIONS", 1)
    x = RNG.normal(size=(2, 5, 6, channels))
    w, b = RNG.normal(size=(*kernel, channels, 3)), RNG.normal(size=3)
    strides = (stride, stride) if isinstance(stride, int) else stride

    def reduce(window):
        return np.einsum("ijc,ijco->o", window, w) + b

    want = looped(x, kernel, strides, pads, 0, reduce)
    out, cache = layers.conv2d_forward(*map(jnp.asarray, (x, w, b)), stride=stride, padding=padding)
    np.testing.assert_allclose(out, want, rtol=1e-12, atol=1e-12)
    _, _, shape = layers.conv2d(3, kernel, stride=stride, padding=padding).init(
        jax.random.key(0), x.shape[1:]
    )
    assert shape == want.shape[1:]

    # The gradients by the definition of an adjoint: <dout, conv(x, w)> is linear in each.
    dout = RNG.normal(size=out.shape)
    value = float((dout * (want - b)).sum())
    for platform in ("cpu", "cuda"):
        with changed_form(platform=platform):
            dx, dw, db = map(np.asarray, layers.conv2d_backward(jnp.asarray(dout), cache))
        assert float((dx * x).sum()) == pytest.approx(value, rel=1e-10)
        assert float((dw * w).sum()) == pytest.approx(value, rel=1e-10)
        np.testing.assert_allclose(db, dout.sum((0, 1, 2)), rtol=1e-12)
        for place in [(0, 0), (1, 2)]:  # and entry by entry, at some
            point = tuple(min(n, k - 1) for n, k in zip(place, kernel, strict=True))
            unit = np.zeros_like(w)
            unit[(*point, 1, 2)] = 1
            one = looped(
                x, kernel, strides, pads, 0, lambda v, u=unit: np.einsum("ijc,ijco->o", v, u)
            )
            assert float(dw[(*point, 1, 2)]) == pytest.approx(float((dout * one).sum()), rel=1e-10)
            unit = np.zeros_like(x)
            unit[(1, *place, 1)] = 1
            one = looped(unit, kernel, strides, pads, 0, lambda v: np.einsum("ijc,ijco->o", v, w))
            expected = float((dout * one).sum())
            assert float(dx[(1, *place, 1)]) == pytest.approx(expected, rel=1e-10, abs=1e-12)


@pytest.mark.parametrize(
    ("window", "stride", "padding", "pads"),
    [
        (2, None, "valid", ((0, 0), (0, 0))),
        (3, 1, "same", ((1, 1), (1, 1))),
        ((3, 2), 2, ((1, 0), (0, 1)), ((1, 0), (0, 1))),
    ],
)
def test_pools_are_those_of_the_places_in_the_image(window, stride, padding, pads):
    x = RNG.normal(size=(2, 5, 6, 2))
    settings = {"window": window, "stride": stride, "padding": padding}
    size = (window, window) if isinstance(window, int) else window
    strides = size if stride is None else (stride, stride)
    best = looped(x, size, strides, pads, -np.inf, lambda v: v.max((0, 1)))
    mean = looped(x, size, strides, pads, np.nan, lambda v: np.nanmean(v, (0, 1)))
    np.testing.assert_array_equal(layers.max_pool_forward(jnp.asarray(x), **settings)[0], best)
    out, _ = layers.average_pool_forward(jnp.asarray(x), **settings)
    np.testing.assert_allclose(out, mean, rtol=1e-12)
    for layer in (layers.max_pool, layers.average_pool):
        assert layer(**settings).init(jax.random.key(0), (5, 6, 2))[2] == best.shape[1:]


def test_of_equal_maxima_the_first_takes_the_gradient():
    x = jnp.zeros((1, 2, 3, 1))  # windows of 2×2, overlapping by a column
    _, cache = layers.max_pool_forward(x, window=2, stride=1)
    dx = layers.max_pool_backward(jnp.asarray([[[[3.0], [5.0]]]]), cache)
    assert dx[0, :, :, 0].tolist() == [[3.0, 5.0, 0.0], [0.0, 0.0, 0.0]]


def test_nan_in_a_window_comes_out():
    for place in range(4):
        x = jnp.arange(4.0).at[place].set(jnp.nan).reshape(1, 2, 2, 1)
        assert math.isnan(layers.max_pool_forward(x)[0].item())


def test_group_norm_is_a_normalization_of_each_group():
    x, scale, shift = RNG.normal(3, 2, size=(2, 3, 2, 4)), RNG.normal(size=4), RNG.normal(size=4)
    out, _ = layers.group_norm_forward(*map(jnp.asarray, (x, scale, shift)), groups=2, eps=0.01)
    for sample in range(2):
        for group in (slice(0, 2), slice(2, 4)):
            values = x[sample, :, :, group]
            x_hat = (values - values.mean()) / np.sqrt(values.var() + 0.01)
            want = scale[group] * x_hat + shift[group]
            np.testing.assert_allclose(out[sample, :, :, group], want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: layers.conv2d(3, 3).init(jax.random.key(0), (7,)), "height, width, channels"),
        (
            lambda: layers.conv2d(3, 5, padding="valid").init(jax.random.key(0), (4, 4, 1)),
            "5×5 does not fit",
        ),
        (
            lambda: layers.conv2d(3, 3, padding="sane").init(jax.random.key(0), (4, 4, 1)),
            "mean 'same'",
        ),
        (lambda: layers.conv2d(3, 3, padding=-1).init(jax.random.key(0), (4, 4, 1)), "got "),
        (lambda: layers.conv2d(3, 0), "kernel should be a whole number from 1"),
        (
            lambda: layers.max_pool(2, 2, 2).init(jax.random.key(0), (4, 4, 1)),
            "wholly outside the image",
        ),
        (
            lambda: layers.group_norm(3).init(jax.random.key(0), (4, 4, 4)),
            "4 channels do not fall into 3",
        ),
    ],
)
def test_mistakes_are_named(call, text):
    with pytest.raises(ConfigurationError, match=text):
        call()


def test_augmented_images_are_mirrored_and_shifted():
    image = np.arange(1.0, 21.0).reshape(4, 5)
    images = jnp.asarray(np.tile(image[None, :, :, None], (200, 1, 1, 1)))
    out = np.asarray(augment(jax.random.key(1), images, flip=0.5, shift=1.0))[..., 0]
    possible, seen = {}, set()
    for flip in (False, True):
        for down in (-1, 0, 1):
            for right in (-1, 0, 1):
                source = image[:, ::-1] if flip else image
                padded = np.pad(source, 1)
                want = padded[1 - down : 5 - down, 1 - right : 6 - right]
                possible[want.tobytes()] = (flip, down, right)
    for one in out:
        seen.add(possible[np.ascontiguousarray(one).tobytes()])
    assert len(seen) == 18
    still = augment(jax.random.key(1), images, flip=0.0, shift=0.0)
    np.testing.assert_array_equal(still, images)
