"""POSIX conformance: the rules of each system call, on the library and on a mount."""
