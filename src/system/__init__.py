"""The operating system's edge: guarded reading, atomic writing, one-line faults, signals."""
