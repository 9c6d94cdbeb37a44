"""Lines and tails of container logs. Pure."""
