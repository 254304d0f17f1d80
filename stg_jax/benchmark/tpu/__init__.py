"""What the TPU compiler says of a program, found out without a TPU."""
