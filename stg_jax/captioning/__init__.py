"""Raw videos to captions: printed, as subtitles, burned into the picture, or on a web page."""
