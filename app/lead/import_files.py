"""Tab Import: files into the store. An import goes on in a thread, so that a reload of the page does not stop it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr
from markupsafe import Markup

from app.importing.import_file import ImportPlan, ImportReport, plan_import, run_import
from app.importing.uploads import Staged, import_folders, import_path, stage
from app.lead.context import LeadContext, LeadSection
from app.lead.views.exchange import UPLOADED, import_form, plan_view, problem_table, report_view, running_view
from app.lead.views.import_columns import chosen_columns, chosen_words, column_fields
from app.ui.markup import joined
from app.web.form_data import STALE_BUTTON, FormData, FormError
from app.web.panel import QUIET, Reply
from app.web.plain_errors import PLAIN_ERRORS
from storage.accounts.users import User
from storage.exchange.formats.detect import MAPPABLE
from storage.exchange.parsed import ExchangeError, ImportRefusedError

FOLLOW_SECONDS = 0.4


@dataclass
class Job:
    """A dry run or an import that goes on in a thread.

    Attributes:
        fields: the form that began it.
        cancel: set to stop it.
        done: set when it has ended, with a result or an error.
        stage: the present step, in words.
    """

    fields: FormData
    cancel: threading.Event = field(default_factory=threading.Event)
    done: threading.Event = field(default_factory=threading.Event)
    stage: str = "reading the file"
    result: ImportPlan | ImportReport | None = None
    error: Exception | None = None

    def run(self, work: Callable[..., ImportPlan | ImportReport]) -> None:
        """Do the work; `done` is set in any case."""
        try:
            self.result = work(progress=self._on_progress, cancelled=self.cancel.is_set)
        except Exception as error:  # raised again where the job is followed
            self.error = error
        finally:
            self.done.set()

    def _on_progress(self, stage: str, done: int, total: int) -> None:
        self.stage = f"{stage}, {done} of {total}"


class ImportTab(LeadSection):
    """Upload or choose a file, try it in a dry run, import it."""

    name, title = "import", "Import"

    def __init__(self, context: LeadContext) -> None:
        super().__init__(context)
        self._staged: dict[int, Staged] = {}
        self._jobs: dict[int, Job] = {}
        self._plans: dict[int, tuple[str, ImportPlan]] = {}  # the last dry run of each person, and of which file it was

    def build(self) -> None:
        """Put the button for uploads above the panel."""
        self.files = gr.UploadButton("Upload files", file_count="multiple", type="filepath", elem_id="lead-upload")
        super().build()
        self.files.upload(self.take_upload, self.files, [self.panel, self.files], **QUIET)

    def take_upload(self, paths: Sequence[str] | None, request: gr.Request) -> list[Any]:
        """Handle an upload: move a lead's files to where only an import finds them."""
        try:
            person = self.context.auth.require(request, "lead")
            self._staged.pop(person.id, None)
            self._plans.pop(person.id, None)
            self._staged[person.id] = stage([Path(path) for path in paths or ()], self.context.database.home, person.id)
            reply = self._form(person, FormData("", "", {"place": UPLOADED}))
        except PLAIN_ERRORS as error:
            reply = Reply(None, str(error), bad=True)
        return [reply.value(), None]

    def view(self, person: User, _campaign: int | None) -> Reply:
        """Show the form, or the import that is running."""
        job = self._jobs.get(person.id)
        if job is not None and not job.done.is_set():
            return Reply(running_view(job.stage))
        return self._form(person, FormData("", ""))

    def act(self, form: FormData, person: User, campaign: int | None) -> Reply | Iterator[Reply]:
        """Try a dry run, import, follow a running job, or stop it."""
        job = self._jobs.get(person.id)
        if form.act == "cancel":
            if job is not None:
                job.cancel.set()
            return Reply(None, "Stopping.")
        if form.act == "follow":
            return self._follow(person, job) if job is not None else self.view(person, campaign)
        if form.act in ("check", "import"):
            if job is not None and not job.done.is_set():
                raise FormError("An import is running already. Wait for it, or stop it.")
            return self._follow(person, self._start(form, person))
        raise FormError(STALE_BUTTON)

    def _form(self, person: User, fields: FormData, below: Markup | str = "", status: str = "") -> Reply:
        staged = self._staged.get(person.id)
        uploaded = staged.names if staged is not None else ()
        folders = import_folders(self.context.database.home)
        place, plan = self._plans.get(person.id, ("", None))
        has_columns = plan is not None and place == fields.text("place") and plan.format in MAPPABLE and plan.columns.names
        columns = column_fields(plan.columns, fields) if plan is not None and has_columns else ""
        form = import_form(folders, uploaded, fields.text("place"), fields.text("source"), fields.text("format"), columns)
        return Reply(joined([form, below]), status)

    def _start(self, form: FormData, person: User) -> Job:
        path = self._path_of(form, person)
        options: dict[str, Any] = {"source": form.text("source"), "format": form.text("format") or None}
        options |= {"mapping": chosen_columns(form), "words": chosen_words(form)}
        job = self._jobs[person.id] = Job(form)
        clip_store, database = self.context.clip_store, self.context.database

        def work(**callbacks: Any) -> ImportPlan | ImportReport:
            if form.act == "check":
                return plan_import(database, path, **options, **callbacks)
            return run_import(clip_store, database, path, created_by=person.id, **options, **callbacks)

        threading.Thread(target=job.run, args=(work,), daemon=True).start()
        return job

    def _path_of(self, form: FormData, person: User) -> Path:
        origin = form.text("place")
        if origin.startswith("folder:"):
            return import_path(self.context.database.home, origin.removeprefix("folder:"))
        staged = self._staged.get(person.id)
        if staged is None:
            raise FormError("Upload the files first.")
        return staged.path

    def _follow(self, person: User, job: Job) -> Iterator[Reply]:
        while not job.done.wait(FOLLOW_SECONDS):
            yield Reply(None, f"{job.stage}", running=True)
        if isinstance(job.result, ImportPlan):
            self._plans[person.id] = (job.fields.text("place"), job.result)
            yield self._form(person, job.fields, plan_view(job.result))
        elif isinstance(job.result, ImportReport):
            self._plans.pop(person.id, None)
            staged = self._staged.get(person.id)
            if staged is not None and job.fields.text("place") == UPLOADED:
                staged.discard()
                del self._staged[person.id]
            yield self._form(person, FormData("", ""), report_view(job.result), "Imported.")
        elif isinstance(job.error, ImportRefusedError):
            yield self._form(person, job.fields, problem_table(job.error.problems), "Nothing was imported.")
        elif isinstance(job.error, ExchangeError):
            yield Reply(None, str(job.error), bad=True)
        elif job.error is not None:
            raise job.error
