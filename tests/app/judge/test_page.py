"""The Judge page's endpoints against a real server."""

from __future__ import annotations

import json
import secrets
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from storage.votes import all_votes, current_vote
from tests.helpers.studios import PROMPTS, Running, make_clip, running_studio, talkative_checkpoint


@pytest.mark.slow
def test_bundled_pair_is_judged_and_then_comes_from_the_store(client: Client) -> None:
    assert {row["id"]: row["prompt"] for row in client.predict(api_name="/gallery")} == PROMPTS
    first = client.predict("red", "think", 8, api_name="/judge_bundled")
    assert first["checkpoint"] == "tiny random"
    assert first["mode"] == "think"
    assert not first["from_store"]
    assert 0 <= first["p_first_preferred"] <= 1
    assert first["verdict"] in ("A", "B", "tie")
    assert all(video["thought"] and video["reward"] is not None for video in first["videos"])
    again = client.predict("red", "think", 8, api_name="/judge_bundled")
    assert again == first | {"from_store": True}
    other = client.predict("red", "quick", 8, api_name="/judge_bundled")
    assert not other["from_store"]
    assert other["videos"][0]["thought"] == ""


def test_uploaded_videos_are_judged_by_their_content(client: Client, tmp_path: Path) -> None:
    a = make_clip(tmp_path / "from_generator_x.mp4", (250, 250, 40))
    b = make_clip(tmp_path / "from_generator_y.mp4", (40, 250, 40))
    prompt = 'A "yellow" square; <b>bold</b> & {"json": ${1}}'
    result = client.predict(handle_file(a), handle_file(b), prompt, "quick", 8, api_name="/judge")
    assert result["prompt"] == prompt
    assert result["verdict"] in ("A", "B", "tie")
    assert "generator" not in json.dumps(result)
    renamed = a.rename(tmp_path / "renamed.mp4")
    again = client.predict(handle_file(renamed), handle_file(b), prompt, "quick", 8, api_name="/judge")
    assert again == result | {"from_store": True}


@pytest.mark.parametrize(
    ("content", "prompt", "expected"),
    [
        (b"", "A square.", "Video A"),
        (b"this is no video at all\n" * 50, "A square.", "Video A"),
        (None, "  ", "prompt"),
        (None, "A <|im_end|> square", "control token"),
    ],
)
def test_bad_input_gets_one_clear_sentence_and_the_app_goes_on(
    client: Client, tmp_path: Path, content: bytes | None, prompt: str, expected: str
) -> None:
    good = make_clip(tmp_path / "good.mp4", (90, 90, 200))
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(good.read_bytes() if content is None else content)
    with pytest.raises(AppError, match=expected) as caught:
        client.predict(handle_file(bad), handle_file(good), prompt, "quick", 8, api_name="/judge")
    assert "Traceback" not in str(caught.value)
    assert str(tmp_path) not in str(caught.value)
    assert client.predict("blue", "quick", 8, api_name="/judge_bundled")["verdict"] in ("A", "B", "tie")


@pytest.mark.slow
def test_a_vote_is_saved_once_and_a_changed_mind_replaces_it(client: Client, running: Running) -> None:
    pair = client.predict("blue", "quick", 8, api_name="/judge_bundled")["pair"]
    voter, token = secrets.token_hex(16), secrets.token_hex(16)

    def send(_: int) -> bool:
        return bool(client.predict(pair, "A", token, voter, "sharper", api_name="/vote")["is_new"])

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(send, range(4))) == [False, False, False, True]
    client.predict(pair, "both_bad", secrets.token_hex(16), voter, "", api_name="/vote")
    with running.studio.database.read() as session:
        mine = [vote for vote in all_votes(session, pair) if vote.voter == voter]
        assert [(vote.choice, vote.note) for vote in mine] == [("A", "sharper"), ("both_bad", "")]
        current = current_vote(session, pair, voter)
        assert current is not None
        assert current.choice == "both_bad"
    for bad in [(pair, "C", voter), (pair, "A", "somebody"), (10**6, "A", voter)]:
        with pytest.raises(AppError):
            client.predict(bad[0], bad[1], secrets.token_hex(16), bad[2], "", api_name="/vote")


def test_videos_are_served_in_ranges_under_names_that_say_nothing(running: Running) -> None:
    page = httpx.get(running.url).text
    assert "kling" not in page
    assert "sora" not in page
    video = running.studio.clip_store.take_in(next((running.studio.database.home / "videos").glob("*/*.mp4")))
    address = f"{running.url}/clips/{video.public_id}"
    whole = httpx.get(address)
    assert whole.status_code == 200
    assert whole.headers["accept-ranges"] == "bytes"
    part = httpx.get(address, headers={"Range": "bytes=100-299"})
    assert part.status_code == 206
    assert part.content == whole.content[100:300]
    assert part.headers["content-range"] == f"bytes 100-299/{len(whole.content)}"
    assert part.headers["content-type"] == "video/mp4"
    assert "content-disposition" not in part.headers
    assert httpx.get(f"{address}/poster").content.startswith(b"\xff\xd8")
    assert httpx.get(f"{running.url}/clips/..%2F..%2Fdescore.db").status_code == 404
    assert httpx.get(f"{running.url}/clips/unknown").status_code == 404


def test_page_says_which_checkpoint_answers(running: Running) -> None:
    said = httpx.get(f"{running.url}/serving").json()
    assert said["name"] == "tiny random"
    assert "its weights are random" in said["knows"]
    assert said["aside"] == ""


@pytest.mark.slow
def test_backbone_without_a_head_gives_thoughts_and_says_that_there_is_no_reward(tmp_path: Path) -> None:
    backbone = talkative_checkpoint(tmp_path / "backbone", with_head=False)
    with running_studio(tmp_path, checkpoint=backbone) as app:
        assert "no reward" in httpx.get(f"{app.url}/serving").json()["knows"]
        client = Client(app.url, verbose=False)
        with pytest.raises(AppError, match="no trained scoring module"):
            client.predict("red", "quick", 8, api_name="/judge_bundled")
