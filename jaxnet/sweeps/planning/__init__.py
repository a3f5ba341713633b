"""Which configurations train together, in which programs."""
