"""Services that every run needs: seeds, devices, checkpoints, records, provenance, errors."""
