"""Serve captions over HTTP: requests are checked apart and captioned together, in batches."""
