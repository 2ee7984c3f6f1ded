"""Data sets: a file for each, downloads, and generated stand-ins in the real file layouts."""
