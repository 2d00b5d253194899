"""Pretrained weights and domains in, a run folder out."""
