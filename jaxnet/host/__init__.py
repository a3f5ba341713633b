"""The host of a run: its files, signals, memory and terminal."""
