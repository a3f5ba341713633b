"""The multiclass SVM loss of a linear classifier."""

from typing import Any

from jaxnet import losses
from jaxnet.cs231n.classifiers.linear import LossAndGradient, for_numpy

_svm_loss = for_numpy(losses.multiclass_svm)


def svm_loss_vectorized(W: Any, X: Any, y: Any, reg: Any) -> LossAndGradient:
    """loss = mean_i Σ_{c≠y_i} max(0, s_ic − s_iy + 1) + reg·ΣW², s = X·W. Return loss and dW.

    W is [D, C] (its last row is the bias, if the last column of X is ones), X is [N, D], and y has
    N labels from 0 to C − 1. dW, shaped as W, includes the penalty's 2·reg·W. Notebooks with
    ½·reg·ΣW² (2015, 2016) call `jaxnet.cs231n.course_year` first. Raises ConfigurationError for
    shapes that do not fit and labels out of range. Source: CS231n notes, "Linear classification".

    >>> import numpy as np
    >>> loss, dW = svm_loss_vectorized(np.zeros((2, 3)), np.ones((1, 2)), np.array([1]), 0.1)
    >>> print(loss, dW[0])
    2.0 [ 1. -2.  1.]
    """
    return _svm_loss(W, X, y, reg)


def svm_loss_naive(W: Any, X: Any, y: Any, reg: Any) -> LossAndGradient:
    """Return `svm_loss_vectorized(W, X, y, reg)`; Python loops would only be slower."""
    return _svm_loss(W, X, y, reg)
