"""The extractor of the toy world: objects and descriptors from pixels, without a network."""
