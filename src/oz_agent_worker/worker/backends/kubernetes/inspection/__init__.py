"""Looking into one task from the cluster alone: explain, tasks, collect."""
