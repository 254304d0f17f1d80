"""Reading videos: containers, frames, stretches of time."""

# Defaults of the largest upload, of the web page and of the HTTP API alike.
MAX_SECONDS, MAX_MEGABYTES = 60.0, 100.0
