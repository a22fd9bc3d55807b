"""A folder of videos: one subfolder for each generator, the same file stem for the same prompt.

    clips/prompts.csv            name,prompt
    clips/sora/red.mp4           (or clips/red.txt beside the subfolders, or clips/sora/red.txt, with the prompt as text)
    clips/kling/red.webm

Every two generators that have a video of a prompt make a pair. Which of the two is A is decided by the content.
"""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

from descore.prompt import prompt_problem
from storage.exchange.format_reader import FormatReader
from storage.exchange.parsed import ExchangeError, ParsedFile, ParsedPair

PROMPTS = "prompts.csv"
SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi", ".mpg", ".mpeg", ".ts", ".ogv", ".gif"})


def read(path: Path, videos: Path | None = None) -> ParsedFile:
    """Read such a folder.

    Raises:
        ExchangeError: no folder, or a folder of videos was given as well.
    """
    if not path.is_dir():
        raise ExchangeError(f"{path.name} is not a folder")
    if videos is not None:
        raise ExchangeError("a folder holds its videos itself: another folder of videos makes no sense with it")
    reading = FormatReader(path / PROMPTS, name=path.name)
    by_stem = _clips(reading, path)
    prompts = _prompts(reading, path, by_stem)
    for stem, by_generator in sorted(by_stem.items()):
        if len(by_generator) < 2:
            reading.note(None, f"{_shown(path, *by_generator.values())}: no other generator has a video of this name")
        elif stem not in prompts:
            reading.problem(None, f"no prompt for {stem}: neither {PROMPTS} nor {stem}.txt has one")
        else:
            for first, second in combinations(sorted(by_generator), 2):
                _add(reading, path, prompts[stem], (first, by_generator[first]), (second, by_generator[second]))
    return reading.parsed()


def _add(reading: FormatReader, root: Path, prompt: str, *sides: tuple[str, Path]) -> None:
    (generator_a, a), (generator_b, b) = sides
    first, second = (reading.clip_at(None, file.relative_to(root).as_posix(), "folder") for file in (a, b))
    if first is None or second is None:
        return
    pair = ParsedPair(
        line=None,
        a=first,
        b=second,
        prompt=prompt,
        generator_a=generator_a,
        generator_b=generator_b,
        ordered=False,
    )
    reading.add(pair)


def _clips(reading: FormatReader, root: Path) -> dict[str, dict[str, Path]]:
    """Stem -> generator -> file."""
    by_stem: dict[str, dict[str, Path]] = {}
    generators = [folder for folder in sorted(root.iterdir()) if folder.is_dir() and not folder.name.startswith(".")]
    if len(generators) < 2:
        reading.problem(None, "needs a subfolder for each of two or more generators")
    for folder in generators:
        for file in sorted(folder.iterdir()):
            if file.name.startswith(".") or file.suffix.lower() == ".txt":
                continue
            if not file.is_file() or file.suffix.lower() not in SUFFIXES:
                reading.note(None, f"{_shown(root, file)} is not a video and was left out")
            elif folder.name in by_stem.setdefault(file.stem, {}):
                twice = _shown(root, by_stem[file.stem][folder.name], file)
                reading.problem(None, f"{twice}: two videos of one generator and one prompt")
            else:
                by_stem[file.stem][folder.name] = file
    return by_stem


def _prompts(reading: FormatReader, root: Path, by_stem: dict[str, dict[str, Path]]) -> dict[str, str]:
    """Stem -> prompt, from the table and from text files, which must agree."""
    prompts = _prompt_table(reading, root) if (root / PROMPTS).is_file() else {}
    for stem in sorted(set(prompts) - set(by_stem)):
        reading.note(None, f"{PROMPTS} has a prompt for {stem}, and there is no video of that name")
    for stem in by_stem:
        for parent in (root, *(root / generator for generator in by_stem[stem])):
            if not (parent / f"{stem}.txt").is_file():
                continue
            text = FormatReader(parent / f"{stem}.txt")
            prompt = (text.text() or "").strip()
            problem = prompt_problem(prompt)
            if text.parsed().problems or not prompt:
                reading.problem(None, f"{_shown(root, text.path)} holds no prompt in UTF-8")
            elif problem is not None:
                reading.problem(None, f"{_shown(root, text.path)}: the prompt {problem}")
            elif prompts.setdefault(stem, prompt) != prompt:
                reading.problem(None, f"{_shown(root, text.path)} has another prompt for {stem} than the rest of the folder")
    return prompts


def _prompt_table(reading: FormatReader, root: Path) -> dict[str, str]:
    table = FormatReader(root / PROMPTS)
    prompts: dict[str, str] = {}
    for row in table.table(("name", "prompt")):
        stem, prompt = _stem(row.text("name")), table.prompt(row).strip()
        if stem in prompts:
            table.problem(row.line, f"a second prompt for {stem}")
        elif prompt:
            prompts[stem] = prompt
    for problem in table.parsed().problems:
        reading.problem(None, str(problem))
    return prompts


def _stem(name: str) -> str:
    """`red` for red, red.mp4 and red.txt; a name may hold other dots."""
    path = Path(name)
    return path.stem if path.suffix.lower() in SUFFIXES | {".txt"} else name


def _shown(root: Path, *files: Path) -> str:
    return " and ".join(file.relative_to(root).as_posix() for file in files)
