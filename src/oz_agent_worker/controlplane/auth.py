"""Authenticates requests: API keys of users and workers, workload tokens of agents."""

from dataclasses import dataclass
from typing import Final, TypeAlias

from starlette.requests import HTTPConnection

from oz_agent_worker.common.secret import Secret

from .problems import Code, ProblemError
from .store import keys
from .store.database import Database
from .store.keys import WORKLOAD_PREFIX, hash_token

__all__ = ["ApiUser", "Principal", "RunAgent", "authenticate", "authenticate_reader", "authenticate_user"]

_SCHEME: Final = "bearer"


@dataclass(frozen=True, slots=True)
class ApiUser:
    """The holder of an API key: a person, a program or a worker."""

    key_id: str
    name: str


@dataclass(frozen=True, slots=True)
class RunAgent:
    """The agent of one run. It may read that run and nothing else."""

    run_id: str


Principal: TypeAlias = ApiUser | RunAgent


async def authenticate(connection: HTTPConnection, database: Database) -> Principal:
    """Return the holder of a request's token. Raises ProblemError (401)."""
    scheme, _, value = connection.headers.get("authorization", "").partition(" ")
    token = Secret(value.strip())
    if scheme.lower() != _SCHEME or not token:
        raise _unauthenticated("Send an API key: Authorization: Bearer <key>.")
    token_hash = hash_token(token)
    if token.reveal().startswith(WORKLOAD_PREFIX):
        run_id = await database.read(keys.find_workload, token_hash)
        if run_id is None:
            raise _unauthenticated("The workload token is not valid, or its run has ended.")
        return RunAgent(run_id)
    key = await database.read(keys.find_key, token_hash)
    if key is None:
        raise _unauthenticated("The API key is not valid.")
    return ApiUser(key.id, key.name)


async def authenticate_user(connection: HTTPConnection, database: Database) -> ApiUser:
    """Like ``authenticate``, but refuse agents. Raises ProblemError (401, 403)."""
    principal = await authenticate(connection, database)
    if isinstance(principal, RunAgent):
        raise ProblemError(403, Code.NOT_AUTHORIZED, "A workload token can only read its own run.")
    return principal


async def authenticate_reader(connection: HTTPConnection, database: Database, run_id: str) -> Principal:
    """Like ``authenticate``, but refuse agents of other runs. Raises ProblemError (401, 403)."""
    principal = await authenticate(connection, database)
    if isinstance(principal, RunAgent) and principal.run_id != run_id:
        raise ProblemError(403, Code.NOT_AUTHORIZED, "This workload token belongs to another run.")
    return principal


def _unauthenticated(detail: str) -> ProblemError:
    return ProblemError(401, Code.AUTHENTICATION_REQUIRED, detail, headers={"WWW-Authenticate": "Bearer"})
