"""Numeric derivatives along lines with error bounds, and the verdict on each line."""
