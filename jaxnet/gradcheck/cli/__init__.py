"""The command `jaxnet gradcheck`."""
