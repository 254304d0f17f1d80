"""Detectors and encoders from ONNX files."""
