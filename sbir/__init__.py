"""The shared core: what both methods stand on, from array functions up to the training loop."""
