"""Verifying labels on a page of the service: answers save themselves, for the role `run` alone."""

from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path

import pytest

from tests.service.conftest import READ, RUN, Serve, Served, sign_in
from tests.support.verifiable_search import RIGHT, made_up_search, right_labels
from tune_mentormix.experiment.experiment import read_experiment
from tune_mentormix.results.verified_labels import read_answers, record_answers

HTML = {"Accept": "text/html"}
PAGE = "/searches/misled/verify"


@pytest.fixture
def served(serve: Serve, tmp_path: Path) -> Served:
    """A service on a search whose noisy labels mislead."""
    made_up_search(tmp_path)
    return serve(tmp_path)


def open_page(served: Served) -> str:
    """The page, once it is made."""
    for _ in range(10):
        response = served.client.get(PAGE, headers=HTML)
        if response.status_code != 202:
            break
    assert response.status_code == 200, response.text
    return response.text


def test_answers_are_kept_with_who_gave_them_and_come_back_with_the_page(served: Served, tmp_path: Path) -> None:
    csrf = sign_in(served.client, RUN)
    page = open_page(served)
    assert f'data-save="{PAGE}"' in page
    assert f'data-csrf="{csrf}"' in page
    images = [
        image["image"] for image in json.loads(re.findall(r'id="data">(.*?)</script>', page, re.S)[0])["images"]
    ]
    right = right_labels(read_experiment(tmp_path, "misled"))
    answers = {image: right[image] for image in images[:30]}

    for image, label in answers.items():
        sent = {"csrf": csrf, "answers": json.dumps({image: label})}
        assert served.client.post(PAGE, data=sent).json() == {"added": 1}
    again = {"csrf": csrf, "answers": json.dumps(answers)}
    assert served.client.post(PAGE, data=again).json() == {"added": 0}

    record_answers(tmp_path / "misled", {images[30]: right[images[30]]}, "ann")
    kept = {answer.image: answer for answer in read_answers(tmp_path / "misled")}
    assert {image: kept[image].answer for image in answers} == answers
    assert {kept[image].by for image in answers} == {"runner"}
    found = re.search(r'data-known="(.*?)"', open_page(served))
    assert found
    assert len(json.loads(unescape(found[1]))) == 31
    summary = served.client.get("/searches/misled", headers=HTML).text
    assert f"31 verified labels choose trial {RIGHT}" in summary


def test_an_answer_is_taken_back(served: Served, tmp_path: Path) -> None:
    csrf = sign_in(served.client, RUN)
    page = open_page(served)
    image = json.loads(re.findall(r'id="data">(.*?)</script>', page, re.S)[0])["images"][0]["image"]

    for label, added in (("3", 1), ("", 1), ("", 0)):
        sent = {"csrf": csrf, "answers": json.dumps({image: label})}
        assert served.client.post(PAGE, data=sent).json() == {"added": added}

    assert [answer.answer for answer in read_answers(tmp_path / "misled")] == ["3", ""]
    assert 'data-known="{}"' in open_page(served)
    assert "verified label" not in served.client.get("/searches/misled", headers=HTML).text


def test_only_the_role_run_may_verify_and_only_through_our_own_form(served: Served, tmp_path: Path) -> None:
    assert served.client.get(PAGE, headers=HTML).status_code == 401
    sign_in(served.client, READ)
    assert served.client.get(PAGE, headers=HTML).status_code == 403
    assert "Verify labels" not in served.client.get("/searches/misled", headers=HTML).text
    served.client.cookies.clear()
    csrf = sign_in(served.client, RUN)
    assert "Verify labels" in served.client.get("/searches/misled", headers=HTML).text

    assert served.client.post(PAGE, data={"answers": "{}"}).status_code == 403
    assert served.client.post(PAGE, data={"csrf": "x" * 43, "answers": "{}"}).status_code == 403
    foreign = {"sec-fetch-site": "cross-site"}
    assert served.client.post(PAGE, data={"csrf": csrf, "answers": "{}"}, headers=foreign).status_code == 403
    assert read_answers(tmp_path / "misled") == []


@pytest.mark.parametrize("answers", ["", "[]", '{"1": 2}', '{"no such image": "3"}'])
def test_answers_that_make_no_sense_are_refused_and_not_kept(served: Served, tmp_path: Path, answers: str) -> None:
    csrf = sign_in(served.client, RUN)

    response = served.client.post(PAGE, data={"csrf": csrf, "answers": answers})

    assert response.status_code in (409, 422)
    assert read_answers(tmp_path / "misled") == []
