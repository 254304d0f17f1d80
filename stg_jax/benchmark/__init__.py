"""How fast the parts of the project are on this machine, one module per suite."""
