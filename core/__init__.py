"""Loading models, checkpoints, images and records."""
