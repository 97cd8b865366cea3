"""Random operations, compared with a directory of the host."""
