"""`python -m trainer collect-thoughts`: chains of thought for labelled pairs that have none.

    own       sampled from the backbone of the preset's checkpoint; errors included, since it will read its own thoughts
    teacher   written by a larger model behind an OpenAI-compatible endpoint (`trainer.thoughts.teacher`)

They are appended to a JSON Lines file pair by pair, so an interrupted collection goes on where it stopped, and kept as
judgements in the store where the pairs come from one. A pair that fails is named, and tried again by the next call.
"""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tqdm import tqdm

from descore.answer import read_thoughts as read_answers
from descore.checkpoints.folder import load_checkpoint
from descore.errors import CheckpointError
from descore.modeling.backbone import fingerprint
from descore.video import FramePolicy, VideoClip, VideoError, read_clips
from storage import Database, StorageError, open_database
from storage.judgements import JudgementRecord, Question, save_judgement
from storage.pairs import find_video
from trainer.config import ConfigError, DataConfig, TrainConfig, load_preset
from trainer.data.frames import BadPairError, PairReader
from trainer.data.load_pairs import from_store, load_pairs
from trainer.data.thought_file import PairThoughts, ThoughtFile
from trainer.rollouts.sampling import sample
from trainer.thoughts.teacher import NoThoughtError, Reply, Teacher, TeacherConfig, TeacherError

if TYPE_CHECKING:
    import argparse

    from descore.checkpoints.manifest import Manifest
    from descore.modeling.model import DeScoreModel
    from trainer.data.pairs import LoadedPairs, TrainingPair

_FAILURES_IN_A_ROW = 10


@dataclass(frozen=True)
class FailedPair:
    """A pair without thoughts, with the reason and the tokens that it cost."""

    identity: str
    reason: str
    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True)
class CollectionSummary:
    """Result of a collection; tokens and seconds: of this call, failed pairs included."""

    pairs: int
    failed: tuple[FailedPair, ...]
    prompt_tokens: int
    completion_tokens: int
    seconds: float

    def line(self, price_in: float, price_out: float) -> str:
        """Format one line for people; prices are for a million tokens, in any currency."""
        tokens = f"{self.prompt_tokens:,} prompt + {self.completion_tokens:,} completion tokens"
        cost = (self.prompt_tokens * price_in + self.completion_tokens * price_out) / 1e6
        priced = f", cost {cost:.2f}" if price_in or price_out else ""
        return f"{self.pairs} pairs, {len(self.failed)} failed, {tokens}{priced}, {self.seconds:.0f} s"


class OwnThoughts:
    """Samples one thought for each video by the backbone itself, temperature 1.

    A pair's thoughts depend on seed, pair and weights alone, not on the pairs beside it.
    """

    def __init__(self, model: DeScoreModel, manifest: Manifest, reader: PairReader, seed: int = 0) -> None:
        self._model, self._reader, self._seed = model, reader, seed
        self._max_tokens = manifest.max_thought_tokens
        self._by = f"{manifest.name} ({fingerprint(model.state_dict())}), sampled"

    def about(
        self, pairs: Sequence[TrainingPair], upcoming: Sequence[TrainingPair] = ()
    ) -> Iterator[PairThoughts | FailedPair]:
        """Sample the thoughts about some pairs together.

        Args:
            upcoming: pairs that come next, whose videos are read meanwhile.
        """
        began, encoded = time.monotonic(), {}
        for pair in pairs:
            try:
                encoded[pair.identity] = self._reader.rows(pair)
            except BadPairError as error:
                yield FailedPair(pair.identity, str(error))
        good = [pair for pair in pairs if pair.identity in encoded]
        self._reader.expect(upcoming)
        if not good:
            return
        rows = [row for pair in good for row in encoded[pair.identity]]
        seeds = [f"thoughts/{self._seed}/{pair.identity}/{side}" for pair in good for side in "AB"]
        sampled = sample(self._model, rows, seeds, num_generations=1, max_tokens=self._max_tokens)
        seconds = (time.monotonic() - began) / len(good)
        for index, pair in enumerate(good):
            a, b = 2 * index, 2 * index + 1
            yield PairThoughts(
                identity=pair.identity,
                contents=pair.contents,
                by=self._by,
                thoughts=(sampled.texts[a][0], sampled.texts[b][0]),
                whole=sampled.ended[a][0] and sampled.ended[b][0],
                prompt_tokens=sum(len(row["input_ids"]) for row in rows[a : b + 1]),
                completion_tokens=len(sampled.ids[a][0]) + len(sampled.ids[b][0]),
                seconds=seconds,
            )


def own_thoughts(
    model: DeScoreModel, manifest: Manifest, pairs: Sequence[TrainingPair], reader: PairReader, batch: int, seed: int = 0
) -> Iterator[PairThoughts | FailedPair]:
    """Sample thoughts as `OwnThoughts`, `batch` pairs at a time, in the order of the pairs."""
    own = OwnThoughts(model, manifest, reader, seed)
    for first in range(0, len(pairs), batch):
        yield from own.about(pairs[first : first + batch], pairs[first + batch : first + 2 * batch])


def teacher_thoughts(
    teacher: Teacher, pairs: Sequence[TrainingPair], policy: FramePolicy, parallel: int
) -> Iterator[PairThoughts | FailedPair]:
    """Ask a teacher for thoughts, `parallel` pairs at a time, in the order of the pairs.

    Raises:
        TeacherError: the endpoint can't be used.
    """
    with ThreadPoolExecutor(parallel, thread_name_prefix="teacher") as threads:
        waiting: list[Future[PairThoughts | FailedPair]] = []
        todo = iter(pairs)
        try:
            while True:
                while len(waiting) < 2 * parallel and (pair := next(todo, None)) is not None:
                    waiting.append(threads.submit(_ask, teacher, pair, policy))
                if not waiting:
                    return
                yield waiting.pop(0).result()
        finally:
            for future in waiting:
                future.cancel()


def _ask(teacher: Teacher, pair: TrainingPair, policy: FramePolicy) -> PairThoughts | FailedPair:
    began, replies = time.monotonic(), list[Reply]()
    try:
        clips: list[VideoClip] = read_clips(pair.videos, policy)
        for clip in clips:
            replies.append(teacher.think(clip, pair.prompt))
    except (VideoError, NoThoughtError) as error:
        lost = (error.prompt_tokens, error.completion_tokens) if isinstance(error, NoThoughtError) else (0, 0)
        paid = [(reply.prompt_tokens, reply.completion_tokens) for reply in replies] + [lost]
        return FailedPair(pair.identity, str(error), sum(count for count, _ in paid), sum(count for _, count in paid))
    return PairThoughts(
        identity=pair.identity,
        contents=pair.contents,
        by=teacher.name,
        thoughts=(replies[0].thought, replies[1].thought),
        prompt_tokens=sum(reply.prompt_tokens for reply in replies),
        completion_tokens=sum(reply.completion_tokens for reply in replies),
        seconds=time.monotonic() - began,
    )


def collect(
    source: Iterator[PairThoughts | FailedPair],
    file: ThoughtFile,
    pairs: Sequence[TrainingPair],
    database: Database | None = None,
) -> CollectionSummary:
    """Append the thoughts of `source` to the file, and to the store if there is one.

    Raises:
        TeacherError: the endpoint can't be used, or pair after pair fails.
        StorageError: the file or the store can't be written.
    """
    prompts = {pair.identity: pair.prompt for pair in pairs}
    began, failed, in_a_row, done, paid = time.monotonic(), list[FailedPair](), 0, 0, [0, 0]
    with tqdm(total=len(pairs), desc="thoughts", unit="pair", mininterval=1) as progress:
        for result in source:
            progress.update()
            paid = [paid[0] + result.prompt_tokens, paid[1] + result.completion_tokens]
            if isinstance(result, FailedPair):
                failed.append(result)
                in_a_row += 1
                if in_a_row == _FAILURES_IN_A_ROW:
                    raise TeacherError(f"{in_a_row} pairs in a row failed; the last: {result.reason}")
                continue
            in_a_row, done = 0, done + 1
            file.add(result)
            if database is not None:
                keep(database, result, prompts[result.identity])
    return CollectionSummary(done, tuple(failed), paid[0], paid[1], time.monotonic() - began)


def keep(database: Database, thoughts: PairThoughts, prompt: str) -> None:
    """Keep both thoughts as judgements without a reward, under a fingerprint that no served checkpoint has."""
    by = "thoughts:" + hashlib.sha256(thoughts.by.encode()).hexdigest()[:32]
    with database.write() as session:
        for content, thought in zip(thoughts.contents, thoughts.thoughts, strict=True):
            video, reading = find_video(session, content), read_answers([thought])
            if video is None:
                continue
            record = JudgementRecord(
                checkpoint=thoughts.by,
                thought=thought,
                sub_scores=reading.sub_scores,
                overall_score=reading.overall_score,
                parse_note=reading.note,
                strict_format=reading.strict,
                reward=None,
                standardised_reward=None,
                reward_spread=None,
                sub_score_votes=None,
                truncated=not thoughts.whole,
                seconds=thoughts.seconds,
            )
            save_judgement(session, Question(video.id, prompt, by, "think"), record)


def run(options: argparse.Namespace) -> int:
    """Run the command; 0, or 1 where pairs failed, or 2 with one line on stderr where the user has to act."""
    try:
        config = load_preset(options.preset, options.set)
        if options.teacher and not options.model:
            raise ConfigError("--teacher needs --model, the name of the model to ask")
        with ThoughtFile(options.out) as file:
            return _collect_all(config, options, file)
    except (ConfigError, StorageError, CheckpointError, TeacherError, ValueError) as error:
        print(f"collect-thoughts: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"collect-thoughts: stopped; the same command goes on from {options.out}", file=sys.stderr)
        return 130


def _collect_all(config: TrainConfig, options: argparse.Namespace, file: ThoughtFile) -> int:
    database = open_database(home=options.home) if config.data.csv is None else None
    try:
        loaded = _labelled(config.data, database)
        known = {thoughts.identity for thoughts in file.known}
        pairs = [pair for pair in loaded.train if pair.thoughts is None and pair.identity not in known]
        pairs = pairs[: options.pairs]
        print(f"{len(loaded.train)} training pairs, {len(pairs)} to think about, {len(known)} already in {options.out}")
        source = _source(config, options, pairs)
        done = collect(source, file, pairs, database)
    finally:
        if database is not None:
            database.close()
    for failure in done.failed:
        print(f"failed: {failure.reason}", file=sys.stderr)
    print(done.line(options.price_in, options.price_out))
    return 1 if done.failed else 0


def _labelled(settings: DataConfig, database: Database | None) -> LoadedPairs:
    return load_pairs(settings) if database is None else from_store(database, settings)


def _source(
    config: TrainConfig, options: argparse.Namespace, pairs: Sequence[TrainingPair]
) -> Iterator[PairThoughts | FailedPair]:
    if options.teacher:
        settings = TeacherConfig(
            url=options.teacher,
            model=options.model,
            key_variable=options.key_variable,
            requests_per_minute=options.requests_per_minute,
            max_tokens=options.max_tokens,
        )
        policy = config.model.frames or FramePolicy()
        return teacher_thoughts(Teacher(settings), pairs, policy, options.batch)
    model, manifest = load_checkpoint(config.model.checkpoint)
    policy = config.model.frames or manifest.frame_policy
    reader = PairReader(model.processor, policy, manifest.prompt_version, None)
    return own_thoughts(model, manifest, pairs, reader, options.batch, config.seed)
