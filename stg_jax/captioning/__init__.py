"""Raw videos to captions: in windows, with times, as subtitles, and burned into the picture."""
