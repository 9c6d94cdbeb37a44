"""One watch for all Jobs and one for all Pods, and the handlers of their changes."""
