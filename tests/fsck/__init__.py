"""The checker: its findings, its repairs, and what they never harm."""
