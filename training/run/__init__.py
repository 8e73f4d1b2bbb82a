"""How every job runs: what it keeps, what it says while it runs, and how it ends. Knows nothing of hands or ages."""
