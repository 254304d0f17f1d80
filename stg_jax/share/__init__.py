"""Models to hand on: exported folders, their cards, the hub, programs and feature files."""
