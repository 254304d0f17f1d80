"""From a source of clips to a data folder: where extraction meets the record writer."""
