"""From captions to scores."""
