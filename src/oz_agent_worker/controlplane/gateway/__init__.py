"""The connections of workers: their frames, the dispatcher, and the leases of runs in flight."""
