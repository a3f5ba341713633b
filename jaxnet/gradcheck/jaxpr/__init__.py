"""TracedProgram programs: their equations, compiled code, reruns with other equations, rounding."""
