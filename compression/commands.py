"""What the modules of commands have in common: how each adds its commands to the parser of all."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TextIO

Command = Callable[[argparse.Namespace, TextIO], None]
# Name, what it does, and one sentence of help; gives the parser of its arguments.
Add = Callable[[str, Command, str], argparse.ArgumentParser]
