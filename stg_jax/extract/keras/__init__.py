"""Detectors and encoders from Keras Hub presets."""
