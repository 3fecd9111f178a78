"""The designs: one family a file, with its configuration, cost and published variants."""
