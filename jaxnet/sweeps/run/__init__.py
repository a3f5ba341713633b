"""How a job is carried out: queue, executors, search."""
