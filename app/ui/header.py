"""The header of all pages with its navigation, and their Gradio theme."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr
from markupsafe import escape

from app.ui.assets import mount_script

SANS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif"]
MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "Liberation Mono", "monospace"]


@dataclass(frozen=True)
class PageLink:
    """A page of the navigation."""

    name: str
    path: str  # begins with a slash


JUDGE, LABEL, LEAD = PageLink("Judge", "/"), PageLink("Label", "/label"), PageLink("Lead", "/lead")
ANALYSE, TRAIN = PageLink("Analyse", "/analyse"), PageLink("Train", "/train")
PAGES = (JUDGE, LABEL, ANALYSE, TRAIN, LEAD)


class PagedBlocks(gr.Blocks):
    """Blocks whose pages have a head of their own in the place of Gradio's bar of pages.

    The bar would stand there until the style sheets come, and then move the whole page.
    """

    def get_config_file(self) -> Any:
        """Return what a browser gets: with the first page alone in the list that the bar is made from."""
        config = super().get_config_file()
        config["pages"] = config["pages"][:1]
        return config


def build_header(here: PageLink, notice: str = "") -> None:
    """Put the head of a page into the current `gr.Blocks`. notice: what is known to stand there, so that nothing moves."""
    gr.HTML(header(here, notice), js_on_load=mount_script("shared/header.js"), apply_default_css=False, elem_id="page-head")


def header(here: PageLink, notice: str = "") -> str:
    """Return the head of a page; header.js fills in the checkpoint that answers and the person, and names the tab."""
    current = ' aria-current="page"'
    links = "".join(f'<a href=".{page.path}"{current if page == here else ""}>{page.name}</a>' for page in PAGES)
    return (
        '<a class="page-skip" href="#content">Skip to the content</a>'
        f'<header class="page-head" data-title="{here.name} – DeScore"><h1>DeScore</h1><nav aria-label="Pages">{links}</nav>'
        f'<span class="served" role="status"></span><span class="person" data-here="{here.path}"></span></header>'
        f'<p class="notice" role="status"{"" if notice else " hidden"}>{escape(notice)}</p>'
    )


def theme() -> gr.themes.Base:
    """Return Gradio's plain theme in the app's colours and the system's own typeface, so that no font is fetched."""
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
