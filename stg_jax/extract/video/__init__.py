"""Reading videos: containers, frames, stretches of time."""
