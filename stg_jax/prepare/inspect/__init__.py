"""Report what a path holds before it is prepared."""
