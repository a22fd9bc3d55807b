"""Sampling of many rows in one batch under a budget of cached tokens: a row that ends makes room for one that waits.

Rows wait in a queue, those with long prompts first. They come in as long as the slots that they are expected to take fit in
the budget; a video's prompt is read when its first row comes in. Where thoughts grow longer than expected, the youngest ones
begin anew later: the same tokens come out, since a row depends on its video and its random numbers alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from descore.encode import Row, collate, pad_token_id
from descore.modeling.decode_batch import DecodeBatch, DecodedRow, slots_of
from descore.modeling.model import LOOK_EVERY
from descore.modeling.prefill_pieces import PREFILL_SLOTS, features_of

if TYPE_CHECKING:
    import torch

    from descore.modeling.model import DeScoreModel, VisionOutputs

_READ_TOKENS = 8192  # of all prompts that are read at a time, as far as they are more than one
_AHEAD = 64  # tokens that a row must have room for when it comes in
_ENDED_SHARE = 8  # one in so many rows must have ended before the rest is moved together


@dataclass(frozen=True)
class SampledThought:
    """One finished thought.

    Attributes:
        ids: its tokens, without the end token.
        end: the end token that was sampled; None where none was.
        ended: False where it was cut off at the limit; at the limit itself, True where an end was most likely.
        log_probs: of each sampled token, the end token's included.
    """

    ids: tuple[int, ...]
    end: int | None
    ended: bool
    log_probs: tuple[float, ...]


def refill(
    model: DeScoreModel,
    rows: Sequence[Row],
    uniforms: torch.Tensor,
    *,
    max_tokens: int,
    budget: int,
    temperature: float = 1.0,
    vision: VisionOutputs | None = None,
) -> list[SampledThought]:
    """Sample G thoughts of each row, all in one batch as far as the budget goes.

    Args:
        uniforms: (rows * G, max_tokens) float64 in [0, 1), those of a row together.
        max_tokens: limit of a thought.
        budget: slots of keys and values that are held at a time: prompts once for each video, thoughts for each row,
            padding included; at least one row runs, whatever it takes.
        vision: ready features of the rows' videos, as `trainer.data.vision_features` gives them.

    Raises:
        ValueError: the backbone's layers can't be called one by one; `take_turns` samples there.
    """
    return Refill(model, rows, uniforms, max_tokens, budget, temperature, vision).run()


def take_turns(
    model: DeScoreModel,
    rows: Sequence[Row],
    uniforms: torch.Tensor,
    *,
    max_tokens: int,
    budget: int,
    temperature: float = 1.0,
    vision: VisionOutputs | None = None,
) -> list[SampledThought]:
    """Sample as `refill`, for any backbone: as many videos as the budget holds think until all of their rows have ended."""
    each, done, thoughts = len(uniforms) // len(rows), 0, []
    while done < len(rows):
        count, longest = 0, 0
        while done + count < len(rows):
            longest = max(longest, len(rows[done + count]["input_ids"]))
            if count and (count + 1) * (longest + each * max_tokens) > budget:
                break
            count += 1
        some = range(done, done + count)
        prompts = collate([rows[video] for video in some], pad_token_id(model.processor))
        state = model.prefill(prompts, None if vision is None else features_of(vision, some))
        state = model.repeat(state, each)
        for _ in model.think(state, max_tokens, uniforms[done * each : (done + count) * each], temperature):
            pass
        thoughts += [
            SampledThought(tuple(ids), end, not running, tuple(log_probs))
            for ids, end, running, log_probs in zip(state.thoughts, state.ends, state.running, state.log_probs, strict=True)
        ]
        done += count
    return thoughts


class Refill:
    """One call of `refill`.

    Attributes:
        most_held: the largest number of slots that were held at a time.
        restarts: how often a thought began anew.
    """

    def __init__(
        self,
        model: DeScoreModel,
        rows: Sequence[Row],
        uniforms: torch.Tensor,
        max_tokens: int,
        budget: int,
        temperature: float,
        vision: VisionOutputs | None,
    ) -> None:
        self.most_held = self.restarts = 0
        self._model, self._rows, self._vision = model, rows, vision
        self._limit, self._budget = max_tokens, budget
        self._batch = DecodeBatch(model, uniforms, temperature)
        self._prompts = [len(row["input_ids"]) for row in rows]
        each = len(uniforms) // len(rows)
        order = sorted(range(len(rows)), key=lambda video: (-self._prompts[video], video))
        self._waiting = deque((video * each + number, video) for video in order for number in range(each))
        self._thoughts: dict[int, SampledThought] = {}

    def run(self) -> list[SampledThought]:
        """Sample all."""
        every = self._model.look_every or (1 if self._model.device.type == "cpu" else LOOK_EVERY)
        while self._waiting or self._batch.rows:
            self._come_and_go()
            running = [row for row in self._batch.rows if row.running]
            if not running:
                continue
            steps = min(every, self._limit - max(len(row.thought) for row in running))
            if self._back_to_budget(steps):
                continue
            self._batch.decode(steps)
            self.most_held = max(self.most_held, self._batch.held)
            self._note_ends()
        return [self._thoughts[row] for row in sorted(self._thoughts)]

    def _come_and_go(self) -> None:
        """Let rows that have ended leave, and as many that wait come in as there is room for."""
        batch = self._batch
        running, ended = self._running_and_ended()
        joining = self._admitted(running)
        if not joining and running and len(ended) * _ENDED_SHARE < len(batch.rows):
            return
        videos = list(dict.fromkeys(video for _, video in joining))
        new = [video for video in videos if video not in batch.videos]
        if new and batch.rows:  # the room of those that leave is free before prompts are read
            batch.arrange(ended, [], needed=videos)
            ended = []
        self._read(new)
        if ended or joining:
            batch.arrange(ended, joining)

    def _running_and_ended(self) -> tuple[list[DecodedRow], list[DecodedRow]]:
        rows = self._batch.rows
        return [row for row in rows if row.running], [row for row in rows if not row.running]

    def _admitted(self, running: Sequence[DecodedRow]) -> list[tuple[int, int]]:
        """Take rows from the queue as long as they fit beside the running ones; one at least where nothing runs."""
        videos = {row.video for row in running}
        longest = max(self._expected(), max((len(row.thought) for row in running), default=0) + _AHEAD)
        longest = min(longest, self._limit)
        joining: list[tuple[int, int]] = []
        while self._waiting:
            video = self._waiting[0][1]
            count = len(running) + len(joining) + 1
            if count > 1 and self._slots(videos | {video}, count, longest) > self._budget:
                break
            videos.add(video)
            joining.append(self._waiting.popleft())
        return joining

    def _expected(self) -> int:
        """How long a thought becomes: as the finished ones did, and half of the limit before one has."""
        lengths = [len(thought.ids) for thought in self._thoughts.values()]
        return sum(lengths) // len(lengths) if lengths else self._limit // 2

    def _slots(self, videos: set[int], rows: int, longest: int) -> int:
        return slots_of(len(videos), max(self._prompts[video] for video in videos), rows, longest)

    def _read(self, videos: Sequence[int]) -> None:
        """Read prompts, several short ones or one long one at a time."""
        group: list[int] = []
        for video in videos:
            if group and (len(group) + 1) * max(self._prompts[each] for each in (*group, video)) > _READ_TOKENS:
                self._read_group(group)
                group = []
            group.append(video)
        if group:
            self._read_group(group)

    def _read_group(self, videos: list[int]) -> None:
        inputs = collate([self._rows[video] for video in videos], pad_token_id(self._model.processor))
        vision = None if self._vision is None else features_of(self._vision, videos)
        for state in self._model.prefill_in_pieces(inputs, vision, max(PREFILL_SLOTS, _READ_TOKENS // len(videos))):
            if state is not None:
                self._batch.add_videos(videos, state)

    def _back_to_budget(self, steps: int) -> bool:
        """Send the youngest rows back to the queue where the next steps would need more than the budget; one row may."""
        batch = self._batch
        running, ended = self._running_and_ended()
        stay = list(batch.rows)
        longest = max(len(row.thought) for row in running) + steps
        if self._slots({row.video for row in stay}, len(stay), longest) <= self._budget:
            return False
        stay = sorted(running, key=lambda row: len(row.thought), reverse=True)
        back: list[DecodedRow] = []
        while len(stay) > 1 and self._slots({row.video for row in stay}, len(stay), longest) > self._budget:
            back.append(stay.pop())
        if not back and not ended:
            return False
        self.restarts += len(back)
        self._waiting.extendleft(sorted(((row.row, row.video) for row in back), reverse=True))
        batch.arrange([*ended, *back], [])
        return True

    def _note_ends(self) -> None:
        """Write down the thoughts that have just come to their end."""
        full = [row for row in self._batch.rows if row.running and len(row.thought) == self._limit]
        ended = dict(zip(full, self._batch.stop(full), strict=True)) if full else {}
        for row in self._batch.rows:
            if not row.running and row.row not in self._thoughts:
                thought, log_probs = tuple(row.thought), tuple(row.log_probs)
                self._thoughts[row.row] = SampledThought(thought, row.end, ended.get(row, True), log_probs)
