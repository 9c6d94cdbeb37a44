"""The connections of workers: their frames, the dispatcher and the lease keeper."""
