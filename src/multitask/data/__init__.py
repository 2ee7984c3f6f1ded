"""Data sets: one module each, downloads, and generated stand-ins in the real file layouts."""
