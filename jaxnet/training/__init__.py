"""What trains: settings, the network of them, one step, and the compiled program of many."""
