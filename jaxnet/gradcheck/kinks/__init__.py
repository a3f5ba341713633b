"""Which side wins at each branch of a program, and on which line of the user's code."""
