"""One watch for all Jobs and one for all Pods, and who is told of what."""
