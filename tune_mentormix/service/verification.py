"""The page that verifies labels, as `verify` writes it, where every answer saves itself."""

from __future__ import annotations

import json
from html import escape
from typing import Any

from fastapi import APIRouter, Depends, HTTPException, Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from tune_mentormix.results.verified_labels import VerifiedLabel, latest_answers, read_answers
from tune_mentormix.service import pages
from tune_mentormix.service.api import Name
from tune_mentormix.service.dependencies import (
    READ_ONLY,
    Authenticated,
    OwnForm,
    Service,
    Shared,
    authorize,
    own_form,
    session_of,
)

router = APIRouter(include_in_schema=False, dependencies=[Depends(authorize)])
forms = APIRouter(include_in_schema=False, dependencies=[Depends(authorize), Depends(own_form)])
ROUTERS = (router, forms)
# The page brings its script and styles along: its own policy, within the page, names the one script by its digest.
PAGE_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@router.get("/searches/{name}/verify")
async def verify_page(request: Request, service: Shared, name: Name, principal: Authenticated) -> Response:
    """The page, which takes the role `run`: it picks the images, and keeps which they are."""
    if not principal.may_run:
        raise HTTPException(403, READ_ONLY)
    response = await pages.artifact_page(request, service, "verify", name)
    session, path = session_of(request), getattr(response, "path", None)
    if session is None or path is None:
        return response
    known = {image: answer.answer for image, answer in latest_answers(_answers(service, name)).items()}
    places = {"save": f"/searches/{name}/verify", "csrf": session.csrf, "known": json.dumps(known)}
    attributes = "".join(f' data-{key}="{escape(value)}"' for key, value in places.items())
    page = path.read_text(encoding="utf-8").replace("<body ", f"<body{attributes} ", 1)
    headers = {"Content-Security-Policy": PAGE_POLICY, "Cache-Control": "no-store"}
    return HTMLResponse(page, headers=headers)


@forms.post("/searches/{name}/verify")
def answer(service: Shared, name: Name, form: OwnForm, principal: Authenticated) -> Response:
    """Keeps answers, image → class, with who gave them; an empty class takes an answer back."""
    try:
        answers: Any = json.loads(form.get("answers", ""))
    except ValueError:
        answers = None
    if not isinstance(answers, dict) or not all(isinstance(value, str) for value in answers.values()):
        raise HTTPException(422, "answers must be a JSON object, image → class")
    with service.experiments.open(name) as cached:
        path = cached.path
    return JSONResponse({"added": service.answers.add(path, answers, principal.owner)})


def _answers(service: Service, name: str) -> list[VerifiedLabel]:
    with service.experiments.open(name) as cached:
        return read_answers(cached.path)
