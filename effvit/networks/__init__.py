"""The networks: one family a file, built from its configuration."""
