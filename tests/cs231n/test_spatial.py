"""The course's layers of images against loops in NumPy, its own numbers, and finite differences."""

import numpy as np
import pytest

from jaxnet.cs231n import fast_layers, layer_utils, layers as L
from jaxnet.cs231n.classifiers.cnn import ThreeLayerConvNet
from jaxnet.errors import ConfigurationError

RNG = np.random.default_rng(0)


def draw(*shape):
    return RNG.normal(size=shape)


def windows(x, height, width, stride):
    """Yield (row, column, the window of all images and channels there)."""
    for row in range((x.shape[2] - height) // stride + 1):
        for column in range((x.shape[3] - width) // stride + 1):
            top, left = row * stride, column * stride
            yield row, column, x[:, :, top : top + height, left : left + width]


def outputs(x, channels, height, width, stride):
    size = [(n - k) // stride + 1 for n, k in zip(x.shape[2:], (height, width), strict=True)]
    return np.empty((len(x), channels, *size))


def loops_conv(x, w, b, param):
    pad, stride = param["pad"], param["stride"]
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    out = outputs(x, len(w), *w.shape[2:], stride)
    for row, column, window in windows(x, *w.shape[2:], stride):
        out[:, :, row, column] = np.einsum("nchw,fchw->nf", window, w) + b
    return out


def loops_pool(x, param):
    size, stride = (param["pool_height"], param["pool_width"]), param["stride"]
    out = outputs(x, x.shape[1], *size, stride)
    for row, column, window in windows(x, *size, stride):
        out[:, :, row, column] = window.max(axis=(2, 3))
    return out


def standardized(x, axes):
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + 1e-5)


def scaled(x, gamma, beta):
    return x * gamma.reshape(1, -1, 1, 1) + beta.reshape(1, -1, 1, 1)


x, w, b, gamma, beta = draw(3, 4, 6, 5), draw(2, 4, 3, 3), draw(2), draw(4), draw(4)
conv, pool = {"stride": 1, "pad": 1}, {"pool_height": 2, "pool_width": 2, "stride": 2}
wide = {"stride": 2, "pad": 0}
overlapping = {"pool_height": 3, "pool_width": 2, "stride": 1}
grouped = standardized(x.reshape(3, 2, -1), 2).reshape(x.shape)
batch_normalized = scaled(standardized(loops_conv(x, w, b, conv), (0, 2, 3)), gamma[:2], beta[:2])
LAYERS = {
    "conv": (L.conv_forward_naive, L.conv_backward_naive, (x, w, b), (conv,), None),
    "conv of stride 2": (L.conv_forward_naive, L.conv_backward_naive, (x, w, b), (wide,), None),
    "fast conv": (
        fast_layers.conv_forward_fast,
        fast_layers.conv_backward_fast,
        (x, w, b),
        (conv,),
        loops_conv(x, w, b, conv),
    ),
    "pool": (L.max_pool_forward_naive, L.max_pool_backward_naive, (x,), (pool,), None),
    "overlapping pool": (
        fast_layers.max_pool_forward_fast,
        fast_layers.max_pool_backward_fast,
        (x,),
        (overlapping,),
        loops_pool(x, overlapping),
    ),
    "batchnorm": (
        L.spatial_batchnorm_forward,
        L.spatial_batchnorm_backward,
        (x, gamma, beta),
        ({"mode": "train"},),
        scaled(standardized(x, (0, 2, 3)), gamma, beta),
    ),
    "group norm": (
        L.spatial_groupnorm_forward,
        L.spatial_groupnorm_backward,
        (x, gamma.reshape(1, 4, 1, 1), beta.reshape(1, 4, 1, 1)),
        (2, {}),
        scaled(grouped, gamma, beta),
    ),
    "conv – relu": (
        layer_utils.conv_relu_forward,
        layer_utils.conv_relu_backward,
        (x, w, b),
        (conv,),
        np.maximum(loops_conv(x, w, b, conv), 0),
    ),
    "conv – relu – pool": (
        layer_utils.conv_relu_pool_forward,
        layer_utils.conv_relu_pool_backward,
        (x, w, b),
        (conv, pool),
        loops_pool(np.maximum(loops_conv(x, w, b, conv), 0), pool),
    ),
    "conv – batchnorm – relu": (
        layer_utils.conv_bn_relu_forward,
        layer_utils.conv_bn_relu_backward,
        (x, w, b, gamma[:2], beta[:2]),
        (conv, {"mode": "train"}),
        np.maximum(batch_normalized, 0),
    ),
}


def expected(name):
    forward, _, arrays, params, found = LAYERS[name]
    if found is not None:
        return found
    return (loops_conv if forward is L.conv_forward_naive else loops_pool)(*arrays, *params)


@pytest.mark.parametrize("name", LAYERS)
def test_forward_is_that_of_loops(name):
    forward, _, arrays, params, _ = LAYERS[name]
    out, _ = forward(*arrays, *params)
    # Sums of up to 36 float64 products of size 1, and the root of a variance.
    np.testing.assert_allclose(out, expected(name), rtol=1e-12, atol=1e-12)
    assert out.dtype == np.float64


@pytest.mark.parametrize("name", LAYERS)
def test_backward_is_that_of_differences_along_directions(name):
    forward, backward, arrays, params, _ = LAYERS[name]
    out, cache = forward(*arrays, *params)
    dout = draw(*out.shape)
    grads = backward(dout, cache)
    grads = grads if isinstance(grads, tuple) else (grads,)
    assert [g.shape for g in grads] == [a.shape for a in arrays]
    step = 1e-6
    for i, grad in enumerate(grads):
        along = draw(*grad.shape)
        values = []
        for sign in (1, -1):
            moved = [a + sign * step * along if i == k else a for k, a in enumerate(arrays)]
            values.append((forward(*moved, *params)[0] * dout).sum())
        slope = (values[0] - values[1]) / (2 * step)
        # Differences of sums of about 100: their rounding over 2e-6 is 1e-8, kinks are farther.
        # Biases before a normalization have the derivative 0.
        assert (grad * along).sum() == pytest.approx(slope, rel=1e-6, abs=1e-6)


def test_numbers_printed_in_the_course():
    shape = (2, 3, 4, 4)
    images = np.linspace(-0.1, 0.5, num=96).reshape(shape)
    filters = np.linspace(-0.2, 0.3, num=144).reshape(3, 3, 4, 4)
    out, _ = L.conv_forward_naive(
        images, filters, np.linspace(-0.1, 0.2, num=3), {"stride": 2, "pad": 1}
    )
    first = [[-0.08759809, -0.10987781], [-0.18387192, -0.2109216]]
    last = [[2.36270298, 2.36904306], [2.38090835, 2.38247847]]
    np.testing.assert_allclose(out[0, 0], first, atol=5e-9)  # eight digits are printed
    np.testing.assert_allclose(out[1, 2], last, atol=5e-9)
    out, _ = L.max_pool_forward_naive(np.linspace(-0.3, 0.4, num=96).reshape(shape), pool)
    np.testing.assert_allclose(
        out[0, 0], [[-0.26315789, -0.24842105], [-0.20421053, -0.18947368]], atol=5e-9
    )


def test_first_of_equal_maxima_takes_the_gradient():
    _, cache = L.max_pool_forward_naive(np.ones((1, 1, 2, 2)), pool)
    dx = L.max_pool_backward_naive(np.full((1, 1, 1, 1), 3.0), cache)
    assert dx.tolist() == [[[[3.0, 0.0], [0.0, 0.0]]]]


def test_network_starts_at_chance_and_its_gradient_is_that_of_differences():
    np.random.seed(0)  # noqa: NPY002 - the net draws from NumPy's global generator
    shape, labels = (2, 6, 6), np.array([0, 2, 1])
    images = draw(3, *shape)
    sizes = {"num_filters": 3, "filter_size": 3, "hidden_dim": 5, "num_classes": 3}
    net = ThreeLayerConvNet(shape, **sizes, weight_scale=1e-4, dtype=np.float64)
    loss, _ = net.loss(images, labels)
    assert loss == pytest.approx(np.log(3), abs=1e-6)
    penalized = ThreeLayerConvNet(shape, **sizes, weight_scale=0.3, reg=0.5, dtype=np.float64)
    loss, grads = penalized.loss(images, labels)
    scores = penalized.loss(images)
    weights = penalized.params
    hidden = loops_pool(np.maximum(loops_conv(images, weights["W1"], weights["b1"], conv), 0), pool)
    hidden = np.maximum(hidden.reshape(3, -1) @ weights["W2"] + weights["b2"], 0)
    np.testing.assert_allclose(scores, hidden @ weights["W3"] + weights["b3"], atol=1e-12)
    logs = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    penalty = 0.25 * sum((weights[f"W{i}"] ** 2).sum() for i in (1, 2, 3))
    assert loss == pytest.approx(penalty - logs[np.arange(3), labels].mean(), rel=1e-12)
    for name, grad in grads.items():
        along, values = draw(*grad.shape), []
        original = penalized.params[name]
        for sign in (1, -1):
            penalized.params[name] = original + sign * 1e-6 * along
            values.append(penalized.loss(images, labels)[0])
        penalized.params[name] = original
        # Losses of about 5: their rounding over 2e-6 is 1e-9.
        expected = pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-6, abs=1e-9)
        assert (grad * along).sum() == expected


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: L.conv_forward_naive(x[0], w, b, conv), "expects images x \\[N, C, H, W\\]"),
        (lambda: L.conv_forward_naive(x, w[:, :3], b, conv), "expects weights w \\[filters, 4"),
        (lambda: L.conv_forward_naive(x, w, b, {"stride": 1}), "conv_param lacks 'pad'"),
        (lambda: L.max_pool_forward_naive(x, {}), "pool_param lacks 'pool_height'"),
        (lambda: L.spatial_batchnorm_forward(x, gamma[:3], beta, {"mode": "train"}), "of 4 values"),
        (lambda: ThreeLayerConvNet(filter_size=4), "an odd filter_size"),
    ],
)
def test_wrong_arguments_are_told(wrong, message):
    with pytest.raises(ConfigurationError, match=message):
        wrong()
