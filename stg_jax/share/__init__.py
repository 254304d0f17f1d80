"""Share models and features: exported folders, model cards, the hub, programs, feature files."""
