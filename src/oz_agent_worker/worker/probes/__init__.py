"""What an operator sees of a running worker over HTTP: health, readiness and metrics."""
