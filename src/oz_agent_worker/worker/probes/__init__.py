"""The worker's HTTP ports for operators: health, readiness and metrics."""
