"""Measurements: `python -m benchmarks [SUBJECT] [--smoke]`; see README.md in this folder."""
