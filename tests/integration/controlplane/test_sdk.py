"""The official client, unmodified, against the real server."""

import json
from datetime import UTC, datetime, timedelta

import oz_agent_sdk
import pytest
from oz_agent_sdk import AsyncOzAPI, OzAPI

from oz_agent_worker.common.secret import Secret
from oz_agent_worker.controlplane.app import ControlPlane

from .conftest import Connect


async def test_create_get_and_cancel(sdk: AsyncOzAPI) -> None:
    created = await sdk.agent.run(
        prompt="Mend the build",
        title="Nightly",
        config={
            "model_id": "m",
            "name": "nightly",
            "harness": {"type": "claude"},
            "worker_host": "elsewhere",
        },
        metadata={"ticket": "VIS-1"},
    )
    assert (created.state, created.task_id, created.at_capacity) == ("QUEUED", created.run_id, True)

    run = await sdk.agent.runs.retrieve(created.run_id)
    assert (run.title, run.prompt, run.state, run.source) == ("Nightly", "Mend the build", "QUEUED", "API")
    assert run.metadata == {"ticket": "VIS-1"}
    assert run.created_at.tzinfo is not None
    assert run.creator is not None
    assert run.creator.display_name == "alice"
    assert run.agent_config is not None
    assert run.agent_config.api_model_id == "m"
    assert run.agent_config.worker_host == "elsewhere"
    assert run.agent_config.harness is not None
    assert run.agent_config.harness.type == "claude"

    # The API answers with a JSON string, and the client hands its text on as it is.
    assert json.loads(await sdk.agent.runs.cancel(created.run_id)) == created.run_id
    cancelled = await sdk.agent.runs.retrieve(created.run_id)
    assert cancelled.state == "CANCELLED"
    assert cancelled.status_message is not None
    assert cancelled.status_message.message == 'Cancelled with the API key "alice"; no worker had it.'
    with pytest.raises(oz_agent_sdk.BadRequestError, match="has ended"):
        await sdk.agent.runs.cancel(created.run_id)


async def test_both_paths_create(sdk: AsyncOzAPI) -> None:
    created = await sdk.post("/agent/run", body={"prompt": "p"}, cast_to=dict[str, object])
    assert (await sdk.agent.runs.retrieve(str(created["run_id"]))).prompt == "p"


async def test_a_list_of_25_runs_in_pages(sdk: AsyncOzAPI) -> None:
    ids = [(await sdk.agent.run(prompt=f"number {n}")).run_id for n in range(25)]
    first = await sdk.agent.runs.list(limit=10)
    assert first.page_info is not None
    assert first.page_info.has_next_page
    assert [run.run_id async for run in sdk.agent.runs.list(limit=10)] == ids[::-1]
    ascending = [
        run.run_id async for run in sdk.agent.runs.list(limit=7, sort_by="created_at", sort_order="asc")
    ]
    assert ascending == ids
    last = await sdk.agent.runs.list(limit=25)
    assert last.page_info is not None
    assert not last.page_info.has_next_page
    assert last.page_info.next_cursor is None


async def test_filters(sdk: AsyncOzAPI) -> None:
    plain = (await sdk.agent.run(prompt="plain")).run_id
    full = (
        await sdk.agent.run(
            prompt="Fix the flaky test",
            parent_run_id=plain,
            skill="org/repo:fix",
            config={"name": "nightly", "model_id": "m", "environment_id": "e"},
            metadata={"ticket.id": "VIS-1"},
        )
    ).run_id
    await sdk.agent.runs.cancel(plain)
    me = (await sdk.agent.runs.retrieve(plain)).creator
    assert me is not None
    assert me.uid is not None

    async def found(**filters: object) -> list[str]:
        return [run.run_id async for run in sdk.agent.runs.list(sort_order="asc", **filters)]  # type: ignore[arg-type]

    hour = timedelta(hours=1)
    present = datetime.now(UTC)
    assert await found(state=["QUEUED"]) == [full]
    assert await found(state=["QUEUED", "CANCELLED"]) == [full, plain]
    assert await found(metadata={"ticket.id": "VIS-1"}) == [full]
    assert await found(q="flaky FIX") == [full]
    assert await found(name="nightly", model_id="m", environment_id="e") == [full]
    assert await found(environment_id="empty-environment") == [plain]
    assert await found(skill_spec="org/repo:fix") == [full]
    assert await found(ancestor_run_id=plain) == [full]
    assert await found(creator=me.uid, source="API") == [full, plain]
    assert await found(created_after=present - hour, created_before=present + hour) == [full, plain]
    assert await found(updated_after=present + hour) == []
    assert await found(execution_location="LOCAL") == []
    assert await found(schedule_id="s") == []


async def test_errors_are_the_clients_own(sdk: AsyncOzAPI) -> None:
    with pytest.raises(oz_agent_sdk.NotFoundError):
        await sdk.agent.runs.retrieve("00000000-0000-4000-8000-000000000000")
    with pytest.raises(oz_agent_sdk.NotFoundError):
        await sdk.agent.runs.cancel("00000000-0000-4000-8000-000000000000")
    with pytest.raises(oz_agent_sdk.BadRequestError, match=r"prompt: required"):
        await sdk.agent.run()
    with pytest.raises(oz_agent_sdk.UnprocessableEntityError, match="mode"):
        await sdk.agent.run(prompt="p", mode="plan")
    with pytest.raises(oz_agent_sdk.AuthenticationError):
        await sdk.with_options(api_key="ozk_wrong").agent.runs.list()
    with pytest.raises(oz_agent_sdk.BadRequestError, match="parent_run_id"):
        await sdk.agent.run(prompt="p", parent_run_id="nobody")


async def test_cancelling_a_pending_run_of_a_public_worker_conflicts(
    sdk: AsyncOzAPI, worker: Connect
) -> None:
    run_id = (await sdk.agent.run(prompt="p")).run_id
    async with worker(capacity=None) as w:
        task = await w.assignment()
        with pytest.raises(oz_agent_sdk.ConflictError):
            await sdk.agent.runs.cancel(run_id)
        await w.claim(task)


async def test_the_synchronous_client_works_too(server: ControlPlane, key: Secret) -> None:
    import asyncio

    def use() -> str:
        with OzAPI(base_url=f"{server.url}/api/v1", api_key=key.reveal()) as client:
            run_id = client.agent.run(prompt="p").run_id
            return client.agent.runs.retrieve(run_id).state

    assert await asyncio.to_thread(use) == "QUEUED"
