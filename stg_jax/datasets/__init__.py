"""Annotation files of data sets, and the toy world."""
