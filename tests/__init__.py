"""The tests: one package, so that tests/posix is not taken for Python's own `posix`.

CPython 3.13 looks that module up to make a stat result, and fails if it finds ours.
"""
