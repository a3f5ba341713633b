"""Files, signals and the terminal: what the machine that a run stands on does."""
