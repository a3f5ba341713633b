"""Data sets: load, fetch and describe the known ones, wrap your own arrays, split, preprocess."""

from jaxnet.data.dataset import DataSet
from jaxnet.data.download import fetch
from jaxnet.data.preprocessing import Preprocessing, fit
from jaxnet.data.sources import available, data_directory, describe, load
from jaxnet.data.splits import Examples, Splits

__all__ = [
    "DataSet",
    "Examples",
    "Preprocessing",
    "Splits",
    "available",
    "data_directory",
    "describe",
    "fetch",
    "fit",
    "load",
]
