"""The API server: credentials, requests, errors, retries."""
