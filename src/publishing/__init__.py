"""Publishes results: copies, manifest, verification, run times, and the pages made from them."""

from system import stopping

stopping.during_imports()
