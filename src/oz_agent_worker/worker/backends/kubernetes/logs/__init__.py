"""Pure: lines and tails of container logs."""
