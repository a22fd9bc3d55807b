"""The whole app: header, pages, theme, and the web server that shows them.

    Studio.open("bundled").launch(port=7860)

A page is built by a class of its own in `app/pages`; what it needs is handed to it here.
"""

from __future__ import annotations

import html
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from app.clips import ClipShelf
from app.components.assets import styles
from app.gallery import FOLDER, load_gallery
from app.pages.judge import JudgePage
from app.serving import Served
from descore.video import warm_up
from storage import Database, open_database

SANS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif"]
MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "Liberation Mono", "monospace"]
MAX_UPLOAD = "512mb"


@dataclass(frozen=True)
class Studio:
    """One running app: the checkpoint that answers, the store, the pages."""

    served: Served
    database: Database
    shelf: ClipShelf
    blocks: gr.Blocks

    @classmethod
    def open(cls, checkpoint: str, home: Path | None = None, gallery: Path = FOLDER) -> Studio:
        """Load the checkpoint, open the store, build the pages.

        Raises:
            descore.errors.CheckpointError: the checkpoint can't be used.
            StorageError: the store can't be opened.
        """
        warm_up()
        served = Served.load(checkpoint)
        database = open_database(home=home)
        shelf = ClipShelf(database)
        page = JudgePage(served, database, shelf, load_gallery(shelf, gallery))
        with gr.Blocks(title="DeScore", analytics_enabled=False, fill_width=True) as blocks:
            gr.HTML(header(served), apply_default_css=False)
            page.build(blocks)
        return cls(served, database, shelf, blocks)

    def launch(self, host: str | None = None, port: int | None = None, **options: Any) -> tuple[Any, str, str]:
        """Serve until interrupted; `options` go to `gr.Blocks.launch`, whose result is returned."""
        return self.blocks.launch(
            server_name=host,
            server_port=port,
            theme=theme(),
            css=styles(),
            app_kwargs={"routes": self.shelf.routes()},
            footer_links=[],
            run_history=False,
            ssr_mode=False,
            show_error=True,
            max_file_size=MAX_UPLOAD,
            **options,
        )


def header(served: Served) -> str:
    """The head of every page: which page, and which checkpoint answers."""
    name, knows = html.escape(served.model.name), html.escape(served.knows)
    return (
        '<header class="page-head"><h1>DeScore</h1><span class="page-name">Judge</span>'
        f'<span class="served"><b>{name}</b> \N{EN DASH} {knows}</span></header>'
    )


def theme() -> gr.themes.Base:
    """Gradio's plain theme in the app's colours and the system's own typeface, so that no font is fetched."""
    return gr.themes.Base(
        primary_hue="teal", neutral_hue="slate", radius_size="sm", spacing_size="sm", font=SANS, font_mono=MONO
    ).set(
        body_background_fill="var(--ground)",
        body_background_fill_dark="var(--ground)",
        body_text_color="var(--ink)",
        body_text_color_dark="var(--ink)",
        body_text_color_subdued="var(--faint)",
        body_text_color_subdued_dark="var(--faint)",
        background_fill_primary="var(--panel)",
        background_fill_primary_dark="var(--panel)",
        background_fill_secondary="var(--ground)",
        background_fill_secondary_dark="var(--ground)",
        block_background_fill="var(--panel)",
        block_background_fill_dark="var(--panel)",
        block_border_color="var(--line)",
        block_border_color_dark="var(--line)",
        border_color_primary="var(--line)",
        border_color_primary_dark="var(--line)",
        block_label_text_color="var(--faint)",
        block_label_text_color_dark="var(--faint)",
        input_background_fill="var(--ground)",
        input_background_fill_dark="var(--ground)",
        input_border_color="var(--line-strong)",
        input_border_color_dark="var(--line-strong)",
        button_primary_background_fill="var(--accent)",
        button_primary_background_fill_dark="var(--accent)",
        button_primary_background_fill_hover="var(--accent-strong)",
        button_primary_background_fill_hover_dark="var(--accent-strong)",
        button_primary_text_color="var(--on-accent)",
        button_primary_text_color_dark="var(--on-accent)",
        button_secondary_background_fill="var(--panel)",
        button_secondary_background_fill_dark="var(--panel)",
        button_secondary_border_color="var(--line-strong)",
        button_secondary_border_color_dark="var(--line-strong)",
        button_secondary_text_color="var(--ink)",
        button_secondary_text_color_dark="var(--ink)",
    )
