"""What every program of the package may use: secrets, proxies, delays. Nothing in here knows a task."""
