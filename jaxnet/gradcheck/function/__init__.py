"""The function under test: its arguments, its values at many points, its gradients."""
