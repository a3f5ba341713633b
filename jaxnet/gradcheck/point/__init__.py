"""One point: all leaves, the checks without differences, the arguments' own dtype, notes."""
