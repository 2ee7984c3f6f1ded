"""Results that git keeps: publish, verify, manifest, run times, the README's tables."""
