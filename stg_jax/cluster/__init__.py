"""Many runs of one config: a grid of settings and seeds, on one machine or as a job array."""
