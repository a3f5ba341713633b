"""Values that a user hands in: what tells them apart, and how they are shown."""
