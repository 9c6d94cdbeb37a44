"""One watch for all Jobs and one for all Pods, and the handlers that hear of their changes."""
