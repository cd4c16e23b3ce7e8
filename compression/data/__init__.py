"""Data sets: found, checked before anything is paid for, and read as images."""
