"""`python -m compression` is the same as `trimboard`."""

from compression.cli.main import main

if __name__ == "__main__":
    main()
