"""Stand-ins for sets that cannot be shipped, written in the real sets' file layouts.

The loaders of the real sets read them.
"""
