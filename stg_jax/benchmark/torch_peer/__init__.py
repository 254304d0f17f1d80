"""A plain PyTorch implementation of the model, to measure against."""
