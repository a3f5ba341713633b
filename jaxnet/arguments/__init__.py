"""Arguments of public functions: checks of one value, and signatures that check themselves."""
