"""Other people's feature files, read into clips."""
