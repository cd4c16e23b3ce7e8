"""A checkpoint on a device: exported, compared with its original, and timed."""
