"""The commands: arguments, text, colours; no filesystem logic (package vsfs_tools)."""
