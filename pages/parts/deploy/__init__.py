"""Files for deployment: which checkpoints there are, and how they are exported."""
