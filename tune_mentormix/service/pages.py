"""The pages for reading: all searches, and one search. They work without scripts; one script keeps them fresh."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from urllib.parse import urlencode

import yaml
from fastapi import APIRouter, Query, Request
from fastapi.responses import PlainTextResponse, RedirectResponse
from starlette.responses import Response

from tune_mentormix.results.summary import summarize
from tune_mentormix.service.curve_picture import curve_picture
from tune_mentormix.service.dashboard import has_dashboard
from tune_mentormix.service.events import as_data
from tune_mentormix.service.experiments_api import made, progress_of_all
from tune_mentormix.service.form_fields import resume_form
from tune_mentormix.service.guard import RefusedError
from tune_mentormix.service.jobs_api import MOST_LOG
from tune_mentormix.service.models import Name
from tune_mentormix.service.reading import Reading
from tune_mentormix.service.rendering import page
from tune_mentormix.service.state import Service, Shared
from tune_mentormix.service.trial_table import OWN_COLUMNS, TrialQuery, select_trials

router = APIRouter(include_in_schema=False)
ROWS = 100  # of a table
PageNumber = Annotated[int, Query(ge=1, le=1_000_000, alias="page")]
MOST_FAILURES = 20
SAID = {
    "submitted": "The search was sent to the cluster: it appears here once its driver has begun.",
    "stopping": "The search was asked to stop. It ends cleanly, which can take half a minute.",
    "resumed": "The search was sent to the cluster again, and goes on where it was.",
}


@router.get("/")
def searches(request: Request, service: Shared, said: str = "", page_number: PageNumber = 1) -> Response:
    """All searches."""
    summaries = service.library.summaries()
    known = service.known_jobs.look()
    names = {summary.name for summary in summaries}
    return page(
        request,
        "searches.html",
        summaries=summaries[(page_number - 1) * ROWS : page_number * ROWS],
        total=len(summaries),
        pages=_pages(len(summaries), page_number, {}),
        waiting=[job for job in known.jobs if job.name not in names],
        failed_jobs={job.name: job.message for job in known.jobs if job.state == "failed"},
        trouble=known.trouble,
        storage=str(service.server.storage),
        now=as_data(progress_of_all(summaries, known)),
        said=SAID.get(said),
    )


@router.get("/searches/{name}")
def search(
    request: Request,
    service: Shared,
    name: Name,
    said: str = "",
    sort: Annotated[str, Query(max_length=64)] = "trial",
    descending: bool = False,
    state: Literal["", "pending", "running", "stopped_early", "finished", "failed"] = "",
    at_least: Annotated[str, Query(max_length=20)] = "",
    page_number: PageNumber = 1,
) -> Response:
    """One search."""
    query = TrialQuery(sort, descending, state or None, _accuracy(at_least))
    job = next((job for job in service.known_jobs.look().jobs if job.name == name), None)
    now = as_data(service.library.summary(name).progress())  # before: the page is at least as new
    with service.library.open(name) as reading:
        return page(
            request,
            "search.html",
            **_search_values(service, reading, query, page_number),
            job=job,
            now=now,
            said=SAID.get(said),
            at_least=at_least,
            has_dashboard=has_dashboard(),
            resume_fields=resume_form(service.server),
        )


@router.get("/searches/{name}/report")
async def report(request: Request, service: Shared, name: Name) -> Response:
    """Its report, or a page that asks again by itself until it is made."""
    return _or_wait(request, await made(service, "report", name), name, "report")


@router.get("/searches/{name}/export")
async def export(request: Request, service: Shared, name: Name) -> Response:
    """Its export, or a page that asks again by itself until it is made."""
    return _or_wait(request, await made(service, "export", name), name, "export")


@router.get("/searches/{name}/logs")
def logs(service: Shared, name: Name) -> Response:
    """What its latest job printed."""
    return PlainTextResponse(service.jobs.logs(name)[-MOST_LOG:])


@router.get("/favicon.ico")
def favicon() -> Response:
    """Browsers ask by themselves."""
    return RedirectResponse("/assets/icon.svg", 308)


def _search_values(service: Service, reading: Reading, query: TrialQuery, page_number: int) -> dict[str, Any]:
    experiment = reading.experiment
    hyperparameters = experiment.hyperparameters
    if query.sort not in (*OWN_COLUMNS, *hyperparameters):
        raise RefusedError(404, f"there is no column {query.sort!r} to sort by")
    chosen = select_trials(experiment, query)
    failed = [trial for trial in experiment.trials.values() if trial.state == "failed"]
    filters = {"state": query.state, "at_least": query.at_least, "sort": query.sort, "descending": query.descending}
    holder = service.library.holder(experiment.name)
    counts = experiment.counts()
    return {
        "experiment": experiment,
        "state": "running" if holder else experiment.left_as(),
        "holder": holder,
        "counts": counts,
        "done": experiment.num_samples - counts["pending"] - counts["running"],
        "finding": summarize(experiment),
        "best": experiment.best(),
        "split": f"{experiment.labels_kind} validation labels",
        "curves": curve_picture(experiment),
        "searched": hyperparameters,
        "columns": [_column(column, query) for column in (*OWN_COLUMNS[:4], *hyperparameters, OWN_COLUMNS[4])],
        "trials": chosen[(page_number - 1) * ROWS : page_number * ROWS],
        "chosen": len(chosen),
        "query": query,
        "pages": _pages(len(chosen), page_number, filters),
        "failed": failed[:MOST_FAILURES],
        "failed_count": len(failed),
        "epochs_per_second": reading.epochs_per_second() if holder else 0.0,
        "settings": yaml.safe_dump(
            experiment.settings_record(),
            sort_keys=False,
            allow_unicode=True,
        ),
    }


def _column(name: str, query: TrialQuery) -> dict[str, Any]:
    """A heading that sorts: a second click turns the order round."""
    is_sorted = query.sort == name
    turned = not query.descending if is_sorted else name == "val_accuracy"
    link = _query({"state": query.state, "at_least": query.at_least, "sort": name, "descending": turned})
    return {"name": name.replace("val_accuracy", "accuracy"), "link": link, "sorted": is_sorted}


def _pages(total: int, current: int, filters: dict[str, Any]) -> dict[str, Any]:
    last = max(1, -(-total // ROWS))
    return {
        "current": current,
        "last": last,
        "before": _query(filters | {"page": current - 1}) if current > 1 else None,
        "after": _query(filters | {"page": current + 1}) if current < last else None,
    }


def _query(values: dict[str, Any]) -> str:
    given = {key: value for key, value in values.items() if value not in (None, "", False)}
    return "?" + urlencode(given) if given else "?"


def _accuracy(text: str) -> float | None:
    if not text.strip():
        return None
    try:
        return float(text)
    except ValueError:
        raise RefusedError(422, "at_least must be a number") from None


def _or_wait(request: Request, response: Response, name: str, kind: str) -> Response:
    if response.status_code != 202:
        return response
    waiting = page(request, "waiting.html", 202, name=name, kind=kind)
    waiting.headers["Refresh"] = "3"
    return waiting
