"""One runnable module per training job; exit code is the outcome."""
