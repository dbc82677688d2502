"""The pages about labels of a running service, in a browser: no answer is lost, and images are shown by class."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import CHROMIUM
from tests.service.conftest import RUN
from tests.support.searches import copy_of
from tests.support.served_process import ServedProcess, served_process
from tests.support.verifiable_search import made_up_search
from tune_mentormix.experiment.experiment import Experiment
from tune_mentormix.results.verified_labels import latest_answers, read_answers

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on this machine")]
COUNT, SAVED, MADE_MS = "#count", "#saved", 120_000
ON_SERVER = "· saved on the server"
# A route of Playwright can miss the first request of a page that is just loaded, so the page's own fetch fails.
SERVER_AWAY = "{ window.working = fetch; window.fetch = () => Promise.reject(new TypeError('away')); true }"
SERVER_BACK = "{ window.fetch = window.working; true }"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[ServedProcess]:
    """A service on a search whose noisy labels mislead."""
    made_up_search(tmp_path)
    with served_process(tmp_path, tmp_path / "log") as served:
        yield served


def signed_in(browser: Browser, served: ServedProcess, path: str) -> Page:
    """A page in a new profile, as a person sees it who has just signed in."""
    page = browser.new_context().new_page()
    page.goto(f"{served.url}/login")
    page.get_by_label("Token").fill(RUN)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Searches")).to_be_visible()
    page.goto(f"{served.url}{path}")
    return page


def verifying(browser: Browser, served: ServedProcess) -> Page:
    """The page to verify labels, once it is made."""
    page = signed_in(browser, served, "/searches/misled/verify")
    expect(page.locator(COUNT)).to_be_visible(timeout=MADE_MS)
    return page


def kept(tmp_path: Path) -> dict[str, str]:
    """The answers that count, by image."""
    return {image: each.answer for image, each in latest_answers(read_answers(tmp_path / "misled")).items()}


def asked(page: Page) -> list[str]:
    """The images in the order of the page."""
    images: list[str] = page.evaluate("images.map(({ image }) => image)")
    return images


def test_answers_by_keyboard_and_by_double_click_are_each_saved_once(
    browser: Browser, served: ServedProcess, tmp_path: Path
) -> None:
    page = verifying(browser, served)
    for key in ("3", "?", "ArrowRight", "7", "ArrowLeft", "ArrowLeft", "5", "Backspace"):
        page.keyboard.press(key)
    page.get_by_role("group", name="Classes").get_by_role("button").nth(8).dblclick()
    expect(page.locator(COUNT)).to_have_text("5 of 100 answered")
    expect(page.locator(SAVED)).to_have_text(ON_SERVER)

    images = asked(page)
    assert kept(tmp_path) == dict(zip(images, ["3", "?", "5", "7", "8"], strict=False))
    assert len(read_answers(tmp_path / "misled")) == 5
    assert {answer.by for answer in read_answers(tmp_path / "misled")} == {"runner"}
    page.context.close()


def test_an_answer_that_is_taken_back_is_open_again_also_after_a_reload(
    browser: Browser, served: ServedProcess, tmp_path: Path
) -> None:
    page = verifying(browser, served)
    page.keyboard.press("3")
    page.keyboard.press("4")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Backspace")
    expect(page.locator(COUNT)).to_have_text("1 of 100 answered")
    page.keyboard.press("ArrowLeft")
    page.get_by_role("button", name="Take back").click()
    expect(page.locator(COUNT)).to_have_text("0 of 100 answered")
    expect(page.locator(SAVED)).to_have_text(ON_SERVER)
    assert kept(tmp_path) == {}

    page.reload()
    expect(page.locator(COUNT)).to_have_text("0 of 100 answered", timeout=MADE_MS)
    expect(page.locator("#about")).to_contain_text("Image 1 of 100")
    page.keyboard.press("5")
    expect(page.locator(SAVED)).to_have_text(ON_SERVER)
    assert kept(tmp_path) == {asked(page)[0]: "5"}
    page.context.close()


def test_a_reload_while_the_server_is_away_loses_no_answer(
    browser: Browser, served: ServedProcess, tmp_path: Path
) -> None:
    page = verifying(browser, served)
    page.keyboard.press("1")
    expect(page.locator(SAVED)).to_have_text(ON_SERVER)

    page.evaluate(SERVER_AWAY)
    page.add_init_script(SERVER_AWAY)
    page.keyboard.press("2")
    page.keyboard.press("3")
    expect(page.locator(SAVED)).to_contain_text("2 not saved on the server yet")
    page.on("dialog", lambda dialog: dialog.accept())  # it warns before it is left
    page.reload()
    expect(page.locator(COUNT)).to_have_text("3 of 100 answered", timeout=MADE_MS)
    expect(page.locator(SAVED)).to_contain_text("2 not saved on the server yet")
    assert len(kept(tmp_path)) == 1

    page.evaluate(SERVER_BACK)
    expect(page.locator(SAVED)).to_have_text(ON_SERVER, timeout=30_000)
    assert kept(tmp_path) == dict(zip(asked(page), "123", strict=False))
    page.context.close()


def test_two_people_at_once_lose_nothing_and_the_later_answer_counts(
    browser: Browser, served: ServedProcess, tmp_path: Path
) -> None:
    ann, bob = verifying(browser, served), verifying(browser, served)
    images = asked(ann)
    assert asked(bob) == images
    ann.keyboard.press("1")
    for _ in range(3):
        bob.keyboard.press("ArrowRight")
    for one, other in zip("2468", "1357", strict=True):
        ann.keyboard.press(one)
        bob.keyboard.press(other)
    for page in (ann, bob):
        expect(page.locator(SAVED)).to_have_text(ON_SERVER)
    assert len(read_answers(tmp_path / "misled")) == 9
    assert kept(tmp_path).keys() == set(images[:7])

    bob.reload()
    for _ in range(7):
        bob.keyboard.press("ArrowLeft")
    bob.keyboard.press("9")
    expect(bob.locator(SAVED)).to_have_text(ON_SERVER)
    assert kept(tmp_path)[images[0]] == "9"
    ann.reload()
    expect(ann.locator(COUNT)).to_have_text("7 of 100 answered", timeout=MADE_MS)
    ann.keyboard.press("0")
    expect(ann.locator(COUNT)).to_have_text("8 of 100 answered")
    expect(ann.locator(SAVED)).to_have_text(ON_SERVER)
    assert kept(tmp_path)[images[0]] == "9", "what a browser kept overwrites no later answer"
    for page in (ann, bob):
        page.context.close()


def test_suspicious_labels_are_shown_by_class_and_downloaded(
    browser: Browser, finished_search: Experiment, tmp_path: Path
) -> None:
    with served_process(copy_of(finished_search, tmp_path), tmp_path / "log") as served:
        page = signed_in(browser, served, "/searches/done")
        problems: list[str] = []
        page.on("console", lambda message: problems.append(message.text))
        page.get_by_role("link", name="Suspicious labels").click()
        expect(page.get_by_role("heading", name="Which labels are wrong?")).to_be_visible(timeout=MADE_MS)
        images = page.locator(".thumbnails li")
        everything = images.count()
        chosen = page.locator("#given option").nth(1).get_attribute("value")

        page.keyboard.press("Tab")
        while page.evaluate("document.activeElement.id") != "given":
            page.keyboard.press("Tab")
        page.keyboard.press("ArrowDown")

        shown = page.locator(".thumbnails li:visible")
        assert 0 < shown.count() < everything
        assert {item.get_attribute("data-given") for item in shown.all()} == {chosen}
        with page.expect_download() as download:
            page.get_by_role("link", name="labels.csv").click()
        download.value.save_as(tmp_path / "labels.csv")
        with (tmp_path / "labels.csv").open(newline="") as file:
            assert len(list(csv.DictReader(file))) == 300
        page.get_by_role("link", name="Back to the search").click()
        expect(page.get_by_role("link", name="Suspicious labels")).to_be_visible()
        assert problems == []
        page.context.close()
