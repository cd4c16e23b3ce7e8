"""Which detectors there are, how one is opened without trusting it, and how one is written."""
