"""Many processes on one machine, as a rehearsal of many hosts."""
