"""jaxnet: whole hyperparameter sweeps as one compiled program, with proved backward passes."""
