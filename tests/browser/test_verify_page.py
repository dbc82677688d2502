"""The page that verifies labels, in a browser: by keyboard alone, with double clicks, reloads and odd names."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import CHROMIUM
from tests.support.verifiable_search import made_up_search
from tune_mentormix.report import verify_page
from tune_mentormix.report.verify_page import write_verify_files
from tune_mentormix.results import verification_pool

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on this machine")]
COUNT = "#count"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds the page and verify.csv of a search, 12 images."""
    out = tmp_path_factory.mktemp("verify")
    write_verify_files(made_up_search(out / "results"), out, 12, "verify misled --labels verify.csv")
    return out


@pytest.fixture
def page(browser: Browser, folder: Path) -> Iterator[Page]:
    """The page in a new profile; it may load nothing and complain about nothing."""
    context = browser.new_context()
    page = context.new_page()
    requests: list[str] = []
    problems: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto((folder / "verify.html").as_uri())
    yield page
    context.close()
    assert problems == []
    assert [url for url in requests if not url.startswith(("file://", "data:", "blob:"))] == []


def saved(page: Page, tmp_path: Path, by_key: bool = True) -> list[dict[str, str]]:
    """Saves verify.csv and reads it."""
    with page.expect_download() as download:
        if by_key:
            page.keyboard.press("s")
        else:
            page.locator("#download").click()
    assert download.value.suggested_filename == "verify.csv"
    download.value.save_as(tmp_path / "saved.csv")
    with (tmp_path / "saved.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def asked(folder: Path) -> list[dict[str, str]]:
    with (folder / "verify.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_all_is_answered_by_keyboard_alone_and_saved(page: Page, folder: Path, tmp_path: Path) -> None:
    for key in ("3", "?", "ArrowRight", "7", "ArrowLeft", "ArrowLeft", "5"):
        page.keyboard.press(key)
    expect(page.locator(COUNT)).to_have_text("4 of 12 answered")
    answered = [row["answer"] for row in saved(page, tmp_path)]
    assert answered[:5] == ["3", "?", "5", "7", ""]

    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Backspace")
    expect(page.locator(COUNT)).to_have_text("3 of 12 answered")
    for _ in range(12):
        page.keyboard.press("1")

    rows = saved(page, tmp_path)
    assert [(row["image"], row["given"]) for row in rows] == [(row["image"], row["given"]) for row in asked(folder)]
    assert all(row["answer"] for row in rows)


def test_a_reload_in_the_middle_loses_nothing(page: Page, tmp_path: Path) -> None:
    for key in "246":
        page.keyboard.press(key)
    page.reload()

    expect(page.locator(COUNT)).to_have_text("3 of 12 answered")
    expect(page.locator("#about")).to_contain_text("Image 4 of 12")
    assert [row["answer"] for row in saved(page, tmp_path)][:4] == ["2", "4", "6", ""]


def test_a_double_click_answers_one_image(page: Page, tmp_path: Path) -> None:
    page.get_by_role("group", name="Classes").get_by_role("button").nth(8).dblclick()

    expect(page.locator(COUNT)).to_have_text("1 of 12 answered")
    assert [row["answer"] for row in saved(page, tmp_path, by_key=False)][:2] == ["8", ""]


def test_two_tabs_keep_the_answers_of_both(page: Page, folder: Path) -> None:
    other = page.context.new_page()
    other.goto((folder / "verify.html").as_uri())
    page.keyboard.press("1")
    other.keyboard.press("ArrowRight")
    other.keyboard.press("ArrowRight")
    other.keyboard.press("2")

    for each in (page, other):
        each.reload()
        expect(each.locator(COUNT)).to_have_text("2 of 12 answered")


@pytest.mark.parametrize("width", [320, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_its_window_and_is_legible(browser: Browser, folder: Path, width: int, scheme: str) -> None:
    context = browser.new_context(
        viewport={"width": width, "height": 700}, color_scheme="dark" if scheme == "dark" else "light"
    )
    page = context.new_page()
    page.goto((folder / "verify.html").as_uri())
    colours = page.evaluate("['color', 'backgroundColor'].map((key) => getComputedStyle(document.body)[key])")
    text, ground = (np.mean([int(part) for part in colour[4:-1].split(",")]) for colour in colours)

    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert text - ground > 150 if scheme == "dark" else ground - text > 150
    context.close()


def test_names_that_look_like_code_stay_text(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = "</script><img src=x onerror=alert(1)>\"'&"
    load = verification_pool.current_pool

    def with_odd_names(*arguments: object) -> object:
        pool = load(*arguments)  # type: ignore[arg-type]
        object.__setattr__(pool, "class_names", tuple(f"{odd}{n}" for n in range(30)))
        object.__setattr__(pool, "images", tuple(f"{odd} {image}" for image in pool.images))
        return pool

    monkeypatch.setattr(verify_page, "current_pool", with_odd_names)
    write_verify_files(made_up_search(tmp_path), tmp_path, 5, odd)
    page = browser.new_page()
    alerts: list[str] = []
    page.on("dialog", lambda dialog: alerts.append(dialog.message))
    page.goto((tmp_path / "verify.html").as_uri())
    page.keyboard.press("/")
    page.locator("#class").fill(f"{odd}29")
    page.keyboard.press("Enter")

    expect(page.locator(COUNT)).to_have_text("1 of 5 answered")
    expect(page.locator("#card img, #overview img")).to_have_count(6)
    row = saved(page, tmp_path)[0]
    assert row["answer"] == f"{odd}29"
    assert row["image"].startswith(odd)
    assert alerts == []
    page.close()
