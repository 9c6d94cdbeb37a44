"""Bearer tokens: how they are made and how they are kept.

A token carries 256 random bits, so its SHA-256 alone is enough to recognise it and too
little to find it: a slow password hash would add nothing but latency. Looking the hash
up in an index compares no secret byte by byte.
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
    """Make a key for a user or a worker."""
    return Secret(API_KEY_PREFIX + secrets.token_urlsafe(_BYTES))


def new_workload_token() -> Secret:
    """Make a token for the agent of one run."""
    return Secret(WORKLOAD_PREFIX + secrets.token_urlsafe(_BYTES))


def hash_token(token: Secret) -> str:
    """The SHA-256 of a token in hexadecimal: what is stored in its place."""
    return hashlib.sha256(token.reveal().encode()).hexdigest()
