"""From features to captions: beam search, sampling, ensembles, on all devices."""
