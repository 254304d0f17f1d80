"""From captions and features to padded batches."""
