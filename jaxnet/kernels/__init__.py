"""How a sum is computed: matrix products, correlations and the form that a platform asks for."""
