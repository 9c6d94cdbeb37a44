"""The worker's configuration: a schema, shapes that decode it, and its sources."""
