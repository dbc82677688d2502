"""The suspicious labels of a search: a page of images, and all labels as a table.

A process of its own makes both with the command `labels`, since that loads the data and may need the network.
"""

from __future__ import annotations

import asyncio
import csv
from html import escape
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import FileResponse
from starlette.responses import HTMLResponse, Response

from tune_mentormix.service import pages, schemas
from tune_mentormix.service.api import MADE, READING, Limit, Name, Offset, being_made, made_file, media
from tune_mentormix.service.artifacts import LABELS_TABLE
from tune_mentormix.service.dependencies import Shared, authorize

router = APIRouter(include_in_schema=False, dependencies=[Depends(authorize)])
api_router = APIRouter(prefix="/api/v1", responses=READING, tags=["reading"], dependencies=[Depends(authorize)])
ROUTERS = (router, api_router)
# Names of images and classes are other people's text: the page may run nothing and load nothing.
PAGE_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
Given = Annotated[str | None, Query(max_length=1_000, description="Only images with this label.")]


@router.get("/searches/{name}/labels")
async def labels_page(request: Request, service: Shared, name: Name) -> Response:
    """The most suspicious images with both labels, or a page that asks again until they are found."""
    path = await made_file(service, "labels", name)
    if path is None:
        return pages.waiting_page(request, "labels", name)
    back = f'<p class="eyebrow"><a href="/searches/{escape(name)}">Back to the search</a></p>'
    text = await asyncio.to_thread(path.read_text, encoding="utf-8")
    page = text.replace("<header>", f"<header>\n{back}", 1)
    return HTMLResponse(page, headers={"Content-Security-Policy": PAGE_POLICY})


@router.get("/searches/{name}/labels.csv")
async def labels_csv_of_page(request: Request, service: Shared, name: Name) -> Response:
    """The table that the page links to, or a page that asks again until it is made."""
    path = await made_file(service, "labels", name)
    return pages.waiting_page(request, "labels", name) if path is None else _table(path, name)


@api_router.get("/experiments/{name}/labels", response_model=schemas.SuspiciousLabelList, responses=MADE)
async def labels(
    service: Shared, name: Name, given: Given = None, limit: Limit = 100, offset: Offset = 0
) -> schemas.SuspiciousLabelList | Response:
    """The labels of its training images, the most suspicious first."""
    path = await made_file(service, "labels", name)
    if path is None:
        return being_made("labels")
    return await asyncio.to_thread(_select, path.with_name(LABELS_TABLE), given, limit, offset)


@api_router.get("/experiments/{name}/labels.csv", response_class=Response, responses=MADE | media("text/csv"))
async def labels_csv(service: Shared, name: Name) -> Response:
    """The same as a CSV file, as `labels --out` writes it."""
    path = await made_file(service, "labels", name)
    return being_made("labels") if path is None else _table(path, name)


def _table(page: Path, name: str) -> Response:
    """Returns the table that lies beside the page."""
    return FileResponse(page.with_name(LABELS_TABLE), media_type="text/csv", filename=f"{name}-labels.csv")


def _select(path: Path, given: str | None, limit: int, offset: int) -> schemas.SuspiciousLabelList:
    """Reads the rows of one given class, or all."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file, strict=True) if given in (None, row["given"])]
    shown = [schemas.SuspiciousLabel.model_validate(row) for row in rows[offset : offset + limit]]
    return schemas.SuspiciousLabelList(total=len(rows), labels=shown)
