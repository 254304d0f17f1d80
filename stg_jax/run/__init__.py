"""What a run folder holds, written by training and read by everything else."""
