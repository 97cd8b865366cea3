"""The benchmark: ``make bench``, or ``python -m bench`` with VSFS installed.

It measures VSFS beside a C program that does the same (``fuse2fs``), beside a
filesystem that does next to nothing on the same binding (the *floor*), and beside
the kernel's ext4.  docs/PERFORMANCE.md says how to read the figures.

============== =============================================================
``client``     the workload: a process of its own that only makes system calls
``systems``    what is measured: formatting, mounting, unmounting
``rounds``     who runs which phase when; caches dropped in between
``source``     the tree that ``tar`` and ``git clone`` unpack
``floor``      the floor's tree, with a front for each binding
``library``    the same operations without FUSE
``startup``    how long commands take to start
``growth``     large directories, full and sparse images, memory
``figures``    medians, ratios, targets; plain arithmetic
``report``     tables, in the terminal and in docs/PERFORMANCE.md
============== =============================================================
"""
