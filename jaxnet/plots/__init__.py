"""Plots of runs and sweeps: each function takes plain arrays and returns a matplotlib Figure."""

from jaxnet.plots.accuracy import (
    accuracy_map as accuracy_map,
    accuracy_over_pairs as accuracy_over_pairs,
)
from jaxnet.plots.activations import activation_histograms as activation_histograms
from jaxnet.plots.comparison import optimizer_comparison as optimizer_comparison
from jaxnet.plots.curves import learning_curves as learning_curves
from jaxnet.plots.divergence import diverging_map as diverging_map
from jaxnet.plots.fan import learning_fan as learning_fan
from jaxnet.plots.ladder import error_ladder as error_ladder
from jaxnet.plots.parallel import parallel_coordinates as parallel_coordinates
from jaxnet.plots.replicates import replicate_means as replicate_means
from jaxnet.plots.weights import weight_images as weight_images
from jaxnet.plots.winner import winner_reliability as winner_reliability
