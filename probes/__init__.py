"""Measurements on checkpoints: one record a measurement."""
