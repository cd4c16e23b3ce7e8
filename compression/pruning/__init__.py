"""Which channels go, and what brings accuracy back before any training."""
