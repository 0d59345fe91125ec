"""`sv6d score`: responses that are already written, scored on a CPU, and explained point by point."""
