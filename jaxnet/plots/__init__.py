"""Pictures of runs and sweeps. Each takes plain arrays and returns a matplotlib Figure."""

from jaxnet.plots.accuracy import (
    accuracy_map as accuracy_map,
)
from jaxnet.plots.accuracy import (
    accuracy_over_pairs as accuracy_over_pairs,
)
from jaxnet.plots.curves import learning_curves as learning_curves
from jaxnet.plots.divergence import diverging_map as diverging_map
from jaxnet.plots.fan import learning_fan as learning_fan
from jaxnet.plots.replicates import replicate_means as replicate_means
from jaxnet.plots.weights import weight_images as weight_images
