"""Strict flags for every test: a silent broadcast or a silent dtype promotion is a bug here."""

import jax

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")
