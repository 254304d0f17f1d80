"""The extractor of the toy world: objects and descriptors computed from pixels, no network."""
