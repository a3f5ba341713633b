"""The course's classifiers: linear, of two layers, fully-connected of any depth, convolutional."""

from jaxnet.cs231n.classifiers.cnn import ThreeLayerConvNet
from jaxnet.cs231n.classifiers.fc_net import FullyConnectedNet
from jaxnet.cs231n.classifiers.k_nearest_neighbor import KNearestNeighbor
from jaxnet.cs231n.classifiers.linear_classifier import LinearClassifier, LinearSVM, Softmax
from jaxnet.cs231n.classifiers.linear_svm import svm_loss_naive, svm_loss_vectorized
from jaxnet.cs231n.classifiers.softmax import softmax_loss_naive, softmax_loss_vectorized

__all__ = [
    "FullyConnectedNet",
    "KNearestNeighbor",
    "LinearClassifier",
    "LinearSVM",
    "Softmax",
    "ThreeLayerConvNet",
    "softmax_loss_naive",
    "softmax_loss_vectorized",
    "svm_loss_naive",
    "svm_loss_vectorized",
]
