"""A headless Chromium that tests drive over its debugging port."""

import asyncio
import base64
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium is installed (Debian: apt-get install chromium)"
)
PATIENCE_S = 60.0


class Browser:
    """One tab: opens addresses, waits for what a page shows, clicks, measures and takes pictures."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, loop: asyncio.AbstractEventLoop) -> None:
        self._socket, self._loop, self._number = socket, loop, 0
        for domain in ("Page", "Runtime"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Return the answer to one command of the DevTools protocol."""
        self._number += 1
        return self._loop.run_until_complete(asyncio.wait_for(self._call(self._number, method, params), PATIENCE_S))

    async def _call(self, number: int, method: str, params: dict[str, Any]) -> dict[str, Any]:
        await self._socket.send_json({"id": number, "method": method, "params": params})
        while True:
            told = await self._socket.receive_json()
            if told.get("id") == number:
                assert "error" not in told, f"{method}: {told['error']}"
                return told["result"]

    def look(self, width: int, height: int) -> None:
        """Set the size of the window in pixels."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def open(self, address: str) -> None:
        """Open an address from nothing; a page that draws itself is then awaited by ``wait``."""
        self.call("Page.navigate", url="about:blank")
        told = self.call("Page.navigate", url=address)
        assert "errorText" not in told, f"{address}: {told['errorText']}"

    def run(self, script: str) -> Any:
        """Return the value of an expression of JavaScript in the page, which may be a promise."""
        told = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in told, f"{script}: {told['exceptionDetails']}"
        return told["result"].get("value")

    def everything(self) -> str:
        """Return the page's elements and texts as JSON, with those of frames that scripts may not look into."""
        return json.dumps(self.call("DOM.getDocument", depth=-1, pierce=True), ensure_ascii=False)

    def wait(self, *texts: str, until: str = "true") -> str:
        """Return the page's visible text as soon as it has all ``texts`` and the condition ``until`` holds."""
        end = time.monotonic() + PATIENCE_S
        while True:
            said = self.run("document.body ? document.body.innerText : ''")
            absent = [text for text in texts if text not in said]
            if not absent and self.run(f"Boolean({until})"):
                return said
            assert time.monotonic() < end, f"{absent or until} did not come within {PATIENCE_S:g} s; there is: {said}"
            time.sleep(0.1)

    def click(self, text: str) -> None:
        """Click the innermost visible element whose whole text is ``text``, once it is there."""
        self.press(f"""[...document.querySelectorAll("body *")].findLast(
            (one) => one.innerText?.trim() === {json.dumps(text)} && one.getBoundingClientRect().height)""")

    def press(self, element: str) -> None:
        """Press and release the mouse on the middle of an element, an expression of JavaScript, once it is there."""
        self.wait(until=element)
        place = self.run(f"""(() => {{ const one = {element}; one.scrollIntoView({{block: "center"}});
            const at = one.getBoundingClientRect(); return {{x: at.x + at.width / 2, y: at.y + at.height / 2}} }})()""")
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **place)

    def picture(self, file: Path) -> None:
        """Write what the window shows as PNG."""
        file.parent.mkdir(parents=True, exist_ok=True)
        shot = self.call("Page.captureScreenshot")
        file.write_bytes(base64.b64decode(shot["data"]))


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """Start Chromium with a profile of its own, and end it."""
    words = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-port=0"]
    words += [
        "--no-first-run",
        "--disable-background-networking",
        "--disable-features=IsolateSandboxedIframes",
        f"--user-data-dir={profile}",
        "about:blank",
    ]
    process = subprocess.Popen([str(CHROMIUM), *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    loop = asyncio.new_event_loop()
    try:
        session, socket = loop.run_until_complete(asyncio.wait_for(_connect(profile), PATIENCE_S))
        try:
            yield Browser(socket, loop)
        finally:
            loop.run_until_complete(session.close())
    finally:
        process.terminate()
        process.wait(PATIENCE_S)
        loop.close()


async def _connect(profile: Path) -> tuple[aiohttp.ClientSession, aiohttp.ClientWebSocketResponse]:
    """Connect to the first tab, once Chromium has written its port into its profile."""
    told = profile / "DevToolsActivePort"
    while not (told.exists() and told.read_text().count("\n")):
        await asyncio.sleep(0.05)
    session = aiohttp.ClientSession()
    async with session.get(f"http://127.0.0.1:{told.read_text().split()[0]}/json/list") as answer:
        tab = next(one for one in await answer.json(content_type=None) if one["type"] == "page")
    return session, await session.ws_connect(tab["webSocketDebuggerUrl"], max_msg_size=0)
