"""Compare systems: paired bootstrap over clips and tables."""
