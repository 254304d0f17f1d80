"""Compare systems: stored scores, the paired bootstrap over clips, and tables."""
