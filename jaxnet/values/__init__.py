"""Values that a user passes: fingerprints to distinguish them, and labels to show them."""
