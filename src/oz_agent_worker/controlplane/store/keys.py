"""API keys and workload tokens: bearer tokens of which only hashes are stored.

A token has 256 random bits, so its SHA-256 identifies it and does not help to guess it: a slow
password hash would add only latency. Looking the hash up in an index compares no secret byte by
byte.
"""

import hashlib
import secrets
import uuid
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from oz_agent_worker.common.secret import Secret

from .tables import api_keys, workload_tokens

__all__ = [
    "API_KEY_PREFIX",
    "WORKLOAD_PREFIX",
    "ApiKey",
    "add_key",
    "create_key",
    "drop_workload_tokens",
    "ensure_key",
    "find_key",
    "find_workload",
    "hash_token",
    "list_keys",
    "new_api_key",
    "new_workload_token",
    "revoke_key",
]


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


@dataclass(frozen=True, kw_only=True)
class ApiKey:
    """A key without its secret. Times are microseconds since the epoch."""

    id: str
    name: str
    created_at: int
    revoked_at: int | None


_DROP = delete(workload_tokens).where(workload_tokens.c.run_id == bindparam("of_run"))
_SHOWN = select(api_keys.c.id, api_keys.c.name, api_keys.c.created_at, api_keys.c.revoked_at)


def add_key(connection: Connection, key_id: str, name: str, token_hash: str, now: int) -> ApiKey:
    """Store a key."""
    connection.execute(
        insert(api_keys).values(id=key_id, name=name, token_hash=token_hash, created_at=now, revoked_at=None)
    )
    return ApiKey(id=key_id, name=name, created_at=now, revoked_at=None)


def create_key(connection: Connection, name: str, now: int) -> tuple[ApiKey, Secret]:
    """Create and store a key. Only its hash is stored, so it cannot be read again."""
    token = new_api_key()
    return add_key(connection, str(uuid.uuid4()), name, hash_token(token), now), token


def ensure_key(connection: Connection, name: str, token: Secret, now: int) -> ApiKey:
    """Store a key unless it is stored already; a revoked key stays revoked."""
    token_hash = hash_token(token)
    row = connection.execute(_SHOWN.where(api_keys.c.token_hash == token_hash)).mappings().one_or_none()
    return ApiKey(**row) if row else add_key(connection, str(uuid.uuid4()), name, token_hash, now)


def list_keys(connection: Connection) -> list[ApiKey]:
    """All keys, oldest first, including revoked ones: runs refer to their creator."""
    rows = connection.execute(_SHOWN.order_by(api_keys.c.created_at, api_keys.c.id)).mappings()
    return [ApiKey(**row) for row in rows]


def revoke_key(connection: Connection, key_id: str, now: int) -> bool:
    """Revoke a key; False if no valid key has this ID."""
    statement = update(api_keys).where(api_keys.c.id == key_id, api_keys.c.revoked_at.is_(None))
    return connection.execute(statement.values(revoked_at=now)).rowcount == 1


def find_key(connection: Connection, token_hash: str) -> ApiKey | None:
    """The valid key with this hash."""
    statement = _SHOWN.where(api_keys.c.token_hash == token_hash, api_keys.c.revoked_at.is_(None))
    row = connection.execute(statement).mappings().one_or_none()
    return ApiKey(**row) if row else None


def find_workload(connection: Connection, token_hash: str) -> str | None:
    """The run that the workload token with this hash belongs to."""
    statement = select(workload_tokens.c.run_id).where(workload_tokens.c.token_hash == token_hash)
    return connection.execute(statement).scalar_one_or_none()


def drop_workload_tokens(connection: Connection, run_id: str) -> None:
    """Delete a run's workload tokens."""
    connection.execute(_DROP, {"of_run": run_id})
