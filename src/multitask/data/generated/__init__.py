"""Stand-ins for sets that cannot be shipped, written in the real sets' own file layouts and read by
their loaders.
"""
