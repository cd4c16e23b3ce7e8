"""A detector as channels that hang together: traced, grouped, and what each plan of them costs. Knows no importance."""
