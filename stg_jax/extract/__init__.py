"""From raw video to features."""
