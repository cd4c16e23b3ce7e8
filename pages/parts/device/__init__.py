"""What was timed and measured on exported files."""
