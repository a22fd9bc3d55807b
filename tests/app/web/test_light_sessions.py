"""A new session costs next to nothing, and keeps its own state."""

from __future__ import annotations

import gradio as gr
import pytest
from gradio.blocks import BlocksConfig
from gradio.state_holder import SessionState
from gradio_client import Client

from app.web.light_sessions import MOST_SESSIONS
from tests.helpers.studios import Running


@pytest.fixture
def described(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The ids of the components that are described from now on."""
    ids: list[int] = []
    describe = BlocksConfig.config_for_block

    def counted(component: int, *more: object) -> dict[str, object]:
        ids.append(component)
        return describe(component, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(BlocksConfig, "config_for_block", staticmethod(counted))
    return ids


def test_a_new_session_describes_no_component(running: Running, described: list[int]) -> None:
    session = SessionState(running.studio.blocks)
    assert described == []
    assert not list(session.components)
    assert len(session.blocks_config.blocks) > 100


def test_a_call_describes_only_what_it_changes(client: Client, described: list[int]) -> None:
    assert client.predict(api_name="/gallery")  # as many pairs as a round of labelling leaves open
    assert len(described) <= 2


def test_sessions_keep_their_own_changes(running: Running) -> None:
    first, second = SessionState(running.studio.blocks), SessionState(running.studio.blocks)
    box = next(block for block in running.studio.blocks.blocks.values() if isinstance(block, gr.Textbox))
    first[box._id] = gr.Textbox(label="changed", render=False)
    assert first[box._id].label == "changed"
    assert second[box._id] is box


def test_sessions_are_counted(running: Running) -> None:
    assert running.studio.blocks.state_holder.capacity == MOST_SESSIONS
