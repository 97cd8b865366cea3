"""Pull the plug anywhere: see tests/support/crashes.py."""
