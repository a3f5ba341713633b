"""What there is to train with, and what training costs."""
