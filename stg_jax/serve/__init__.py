"""Serve captions over HTTP: each request is checked by itself; clips are captioned in batches."""
