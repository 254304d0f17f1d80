"""From features to captions."""
