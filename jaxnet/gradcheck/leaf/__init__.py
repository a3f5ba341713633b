"""One leaf of the arguments: its gradients against numeric derivatives, its kinks, its error."""
