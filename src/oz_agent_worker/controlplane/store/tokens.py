"""Bearer tokens: how they are made and stored.

A token has 256 random bits, so its SHA-256 identifies it and does not help to guess it: a slow
password hash would add only latency. Looking the hash up in an index compares no secret byte by
byte.
"""

import hashlib
import secrets
from typing import Final

from oz_agent_worker.common.secret import Secret

__all__ = ["API_KEY_PREFIX", "WORKLOAD_PREFIX", "hash_token", "new_api_key", "new_workload_token"]

API_KEY_PREFIX: Final = "ozk_"
WORKLOAD_PREFIX: Final = "ozw_"
_BYTES: Final = 32


def new_api_key() -> Secret:
    """Create an API key for a user or a worker."""
    return Secret(API_KEY_PREFIX + secrets.token_urlsafe(_BYTES))


def new_workload_token() -> Secret:
    """Create a workload token for the agent of one run."""
    return Secret(WORKLOAD_PREFIX + secrets.token_urlsafe(_BYTES))


def hash_token(token: Secret) -> str:
    """The SHA-256 of a token in hexadecimal, which is stored instead of the token."""
    return hashlib.sha256(token.reveal().encode()).hexdigest()
