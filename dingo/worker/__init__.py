"""The worker's side: pools whose threads and loops run the functions, and what a task can say meanwhile."""
