"""The console in a real browser: a page that notes what is wrong with it, and pictures of it."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, FloatRect, Page, expect, sync_playwright

__all__ = ["Screen", "chromium", "picture"]

expect.set_options(timeout=30_000)  # a page of a busy machine may take long; what never comes fails all the same


@contextmanager
def chromium() -> Iterator[Browser]:
    """The machine's own browser."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield browser
        browser.close()


def picture(page: Page, folder: Path, name: str, *, whole: bool = False, high: int | None = None) -> None:
    """Keep a picture of the page, or of its upper part: in the folder, or where PERENNIAL_PICTURES says."""
    kept = Path(os.environ.get("PERENNIAL_PICTURES", folder)) / name
    part = None if high is None else FloatRect(x=0, y=0, width=page.evaluate("innerWidth"), height=high)
    assert len(page.screenshot(path=kept, full_page=whole, clip=part)) > 5_000


class Screen:
    """A page that notes what its console says, and where it loads from."""

    def __init__(self, browser: Browser, url: str, *, locale: str, width: int, dark: bool = False) -> None:
        self.url, self.width = url, width
        self.page: Page = browser.new_page(
            locale=locale,
            viewport={"width": width, "height": 900},
            color_scheme="dark" if dark else "light",
            base_url=url,
        )
        self.said: list[str] = []
        self.elsewhere: list[str] = []
        self.page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self._asked(request.url))

    def _asked(self, url: str) -> None:
        if not url.startswith(self.url):
            self.elsewhere.append(url)

    def go(self, path: str) -> None:
        answer = self.page.goto(path)
        assert answer is not None
        assert answer.status == 200, path

    def send(self, action: str, reason: str) -> None:
        """Send the form of this action with a reason; the page says that it was done."""
        form = self.page.locator(f"form[action$='/{action}']")
        form.locator("[name=reason]").fill(reason)
        form.locator("button").click()
        assert self.page.locator(".told").inner_text()

    def check(self) -> None:
        """Nothing was said, loaded from elsewhere or run; nothing is wider than the screen; nobody is shut out."""
        wide = self.page.evaluate("document.documentElement.scrollWidth")
        found: list[dict[str, Any]] = Axe().run(self.page).response["violations"]
        serious = [
            (each["id"], each["nodes"][0]["html"]) for each in found if each["impact"] in {"serious", "critical"}
        ]
        assert (self.said, self.elsewhere, serious) == ([], [], []), self.page.url
        assert wide <= self.width, self.page.url
        assert self.page.title() != "owned"
