"""The way between callers and workers: within this process (`local`), or through a broker."""
