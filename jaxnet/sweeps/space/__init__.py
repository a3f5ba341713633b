"""What is to be trained: spaces, jobs, halvings and presets."""
