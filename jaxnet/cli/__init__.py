"""The command line: what it takes, what the commands do, and what they print."""
