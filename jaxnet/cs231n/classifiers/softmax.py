"""The softmax loss of a linear classifier."""

from typing import Any

from jaxnet import losses
from jaxnet.cs231n.classifiers.linear import LossAndGradient, for_numpy

_softmax_loss = for_numpy(losses.softmax_cross_entropy)


def softmax_loss_vectorized(W: Any, X: Any, y: Any, reg: Any) -> LossAndGradient:
    """loss = mean_i −log p_iy + reg·ΣW², p = softmax(X·W). Return loss and dW.

    W is [D, C] (its last row is the bias, if the last column of X is ones), X is [N, D], and y has
    N labels from 0 to C − 1. dW, shaped as W, includes the penalty's 2·reg·W. Notebooks with
    ½·reg·ΣW² (2015, 2016) call `jaxnet.cs231n.course_year` first. Raises ConfigurationError for
    shapes that do not fit and labels out of range. Source: CS231n notes, "Linear classification".

    >>> import numpy as np
    >>> loss, dW = softmax_loss_vectorized(np.zeros((2, 4)), np.ones((1, 2)), np.array([1]), 0.1)
    >>> print(loss.round(4), dW[0])
    1.3863 [ 0.25 -0.75  0.25  0.25]
    """
    return _softmax_loss(W, X, y, reg)


def softmax_loss_naive(W: Any, X: Any, y: Any, reg: Any) -> LossAndGradient:
    """Return `softmax_loss_vectorized(W, X, y, reg)`; Python loops would only be slower."""
    return _softmax_loss(W, X, y, reg)
