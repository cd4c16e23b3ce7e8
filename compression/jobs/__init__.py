"""Where work executes: on this machine, in a process of its own."""
