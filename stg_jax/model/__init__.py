"""The network: two branches, their decoders and the losses."""
