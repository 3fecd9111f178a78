"""A supernet: one set of weights of which every variant of a space is a slice."""
