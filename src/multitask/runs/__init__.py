"""What every run needs: seeds, devices, checkpoints, records, provenance, errors."""
