"""What travels between callers and workers: frozen values, no threads, no I/O."""
