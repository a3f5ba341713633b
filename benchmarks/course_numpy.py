"""The course as a peer: its networks and loop in plain NumPy, vectorized, any dtype.

Written as a careful student would: one call an operation, products by BLAS, update rules a line an
operation, everything in the dtype of the parameters.
"""

from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]


class NumpyNet:
    """{affine – [batchnorm] – relu – [dropout]} × (L − 1) – affine – softmax."""

    def __init__(self, params: Arrays, *, batchnorm: bool, keep: float, reg: float):
        self.params = {name: value.copy() for name, value in params.items()}
        self.batchnorm, self.keep, self.reg = batchnorm, keep, reg
        self.depth = sum(name.startswith("W") for name in params)
        self.dtype = params["W1"].dtype
        self.running = [
            [np.zeros_like(params[f"b{i}"]), np.zeros_like(params[f"b{i}"])]
            for i in range(1, self.depth)
        ]

    def loss(self, images: np.ndarray, y: np.ndarray) -> tuple[Any, Arrays]:
        p, n = self.params, len(images)
        h = images.reshape(n, -1).astype(self.dtype, copy=False)
        caches = []
        for i in range(1, self.depth):
            inputs = h
            a = h @ p[f"W{i}"] + p[f"b{i}"]
            norm = None
            if self.batchnorm:
                mean, centred = a.mean(axis=0), a - a.mean(axis=0)
                variance = (centred**2).mean(axis=0)
                inverse = 1 / np.sqrt(variance + 1e-5)
                x_hat = centred * inverse
                a = p[f"gamma{i}"] * x_hat + p[f"beta{i}"]
                norm = (x_hat, inverse.astype(self.dtype))
                running = self.running[i - 1]
                running[0] = 0.9 * running[0] + 0.1 * mean
                running[1] = 0.9 * running[1] + 0.1 * variance
            h = np.maximum(a, 0)
            mask = None
            if self.keep < 1:
                mask = (np.random.rand(*h.shape) < self.keep) / self.keep
                mask = mask.astype(self.dtype)
                h = h * mask
            caches.append((inputs, a, norm, mask))
        w = p[f"W{self.depth}"]
        scores = h @ w + p[f"b{self.depth}"]
        scores -= scores.max(axis=1, keepdims=True)
        probabilities = np.exp(scores)
        probabilities /= probabilities.sum(axis=1, keepdims=True)
        loss = -np.log(probabilities[np.arange(n), y]).mean()
        d = probabilities
        d[np.arange(n), y] -= 1
        d /= n
        grads = {f"W{self.depth}": h.T @ d + self.reg * w, f"b{self.depth}": d.sum(axis=0)}
        loss += 0.5 * self.reg * np.sum(w * w)
        d = d @ w.T
        for i in range(self.depth - 1, 0, -1):
            inputs, a, norm, mask = caches[i - 1]
            if mask is not None:
                d = d * mask
            d = d * (a > 0)
            if norm is not None:
                x_hat, inverse = norm
                grads[f"gamma{i}"], grads[f"beta{i}"] = (d * x_hat).sum(axis=0), d.sum(axis=0)
                terms = grads[f"beta{i}"] + x_hat * grads[f"gamma{i}"]
                d = p[f"gamma{i}"] * inverse * (d - terms / n)
            w = p[f"W{i}"]
            grads[f"W{i}"] = inputs.T @ d + self.reg * w
            grads[f"b{i}"] = d.sum(axis=0)
            loss += 0.5 * self.reg * np.sum(w * w)
            if i > 1:  # nobody asks for the derivative by the images
                d = d @ w.T
        return loss, grads


class NumpySolver:
    """Updates, a minibatch at a time."""

    def __init__(self, net: NumpyNet, rule: str, rate: float):
        self.net, self.rule, self.rate = net, rule, rate
        self.m = {name: np.zeros_like(value) for name, value in net.params.items()}
        self.v = {name: np.zeros_like(value) for name, value in net.params.items()}
        self.t = 0

    def step(self, images: np.ndarray, labels: np.ndarray, rows: np.ndarray) -> Any:
        loss, grads = self.net.loss(images[rows], labels[rows])
        self.t += 1
        for name, w in self.net.params.items():
            self.net.params[name] = self._update(name, w, grads[name])
        return loss

    def _update(self, name: str, w: np.ndarray, dw: np.ndarray) -> np.ndarray:
        if self.rule == "sgd":
            return w - self.rate * dw
        if self.rule == "sgd_momentum":
            self.m[name] = 0.9 * self.m[name] - self.rate * dw
            return w + self.m[name]
        self.m[name] = 0.9 * self.m[name] + 0.1 * dw
        self.v[name] = 0.999 * self.v[name] + 0.001 * dw**2
        m_hat = self.m[name] / (1 - 0.9**self.t)
        v_hat = self.v[name] / (1 - 0.999**self.t)
        return w - self.rate * m_hat / (np.sqrt(v_hat) + 1e-8)
