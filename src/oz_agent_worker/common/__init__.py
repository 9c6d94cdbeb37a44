"""What every program of the package may use: asyncio helpers, secrets, proxies, delays."""
