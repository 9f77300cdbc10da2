"""The pages in a real browser."""

import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from bughunt_leaderboard.people import Person
from serving import CHALLENGE, Server, serving

if TYPE_CHECKING:
    from selenium.webdriver.support.ui import WebDriverWait

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="Chromium and its driver are not installed"),
]
webdriver = pytest.importorskip("selenium.webdriver")
PICTURES = os.environ.get("BUGHUNT_PICTURES")  # a folder for pictures of the pages

SWITCHES = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
]  # fmt: skip


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path / "cup") as server:
        yield server


@pytest.fixture
def played(server: Server) -> Server:
    """Red has solved one challenge, Blue has joined."""
    _, red = server.join("Red")
    _, blue = server.join("Blue")
    send(server, red, "x = 1\n")
    server.judge()
    assert (red, blue) == (1, 2)
    return server


def send(server: Server, team: int, text: str) -> int:
    return server.referee.submit(Person(0, "captain", team), CHALLENGE, {"train.py": text}, text)


@pytest.fixture(scope="module")
def browser() -> Iterator["webdriver.Chrome"]:
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for switch in [*SWITCHES, "--window-size=1280,800"]:
        options.add_argument(switch)
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    driver.set_page_load_timeout(60)
    yield driver
    driver.quit()
    driver.service.stop()


def patient(browser: "webdriver.Chrome", seconds: float = 60) -> "WebDriverWait":
    """Waits out the moments in which the page replaces a part and there is nothing to read."""
    from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
    from selenium.webdriver.support.ui import WebDriverWait

    absent = [NoSuchElementException, StaleElementReferenceException]
    return WebDriverWait(browser, seconds, ignored_exceptions=absent)


def find(browser: "webdriver.Chrome", selector: str) -> str:
    """The text of a part of the page, which has some."""
    return patient(browser).until(lambda page: page.find_element("css selector", selector).text)


def wait_for(browser: "webdriver.Chrome", text: str, seconds: float = 20) -> None:
    """Until the page says so, without a reload."""
    waiting = patient(browser, seconds)
    waiting.until(lambda page: text in page.find_element("css selector", "main").text)


def picture(browser: "webdriver.Chrome", name: str) -> None:
    if PICTURES:
        browser.save_screenshot(str(Path(PICTURES) / f"{name}.png"))


def test_joining_sending_a_file_and_seeing_it_judged_without_a_reload(
    server: Server, browser: "webdriver.Chrome", tmp_path: Path
) -> None:
    browser.get(f"{server.url}/join?invite={server.invites['Red']}")
    picture(browser, "join")
    browser.find_element("id", "name").send_keys("Ada")
    browser.find_element("css selector", "main button").click()
    wait_for(browser, "Place 1")
    assert find(browser, "h1") == "Red"
    browser.get(f"{server.url}/challenge/{CHALLENGE}")
    program = tmp_path / "train.py"
    program.write_text("x = 1\n")
    browser.find_element("id", "files").send_keys(str(program))
    browser.find_element("css selector", "form button").click()
    wait_for(browser, "waiting, 0 before it")
    browser.execute_script("window.still = true")
    threading.Timer(0.5, server.judge, ["SOLVED"]).start()
    wait_for(browser, "Solved.")
    wait_for(browser, "Solved by Red.")
    assert browser.execute_script("return window.still")
    picture(browser, "challenge")


def test_the_board_moves_while_one_looks_at_it(server: Server, browser: "webdriver.Chrome") -> None:
    server.join("Red")
    browser.get(server.url)
    wait_for(browser, "Red")
    browser.execute_script("window.still = true")
    server.join("Blue", "Bob")
    wait_for(browser, "Blue")
    assert browser.execute_script("return window.still")


def test_a_frozen_board_says_so_and_stands_still_and_an_unfrozen_one_moves_on(
    played: Server, browser: "webdriver.Chrome"
) -> None:
    points = "tbody tr:nth-child(2) td:nth-of-type(2)"
    browser.get(played.url)
    picture(browser, "board")
    played.referee.freeze("host")
    send(played, 2, "y = 2\n")
    played.judge()
    browser.refresh()
    wait_for(browser, "Frozen")
    assert find(browser, points) == "0"
    picture(browser, "frozen")
    played.referee.unfreeze("host")
    wait_for(browser, "Standings")
    assert find(browser, points) != "0"


def test_a_rejudging_that_is_applied_shows_at_once(played: Server, browser: "webdriver.Chrome") -> None:
    browser.get(played.url)
    wait_for(browser, "★")
    rejudging = played.referee.rejudge("host", [1])
    played.judge("UNFIXED")
    assert "★" in find(browser, "tbody tr")
    played.referee.apply("host", rejudging)
    wait_for(browser, "−1")


def test_the_page_fits_a_phone(played: Server, browser: "webdriver.Chrome") -> None:
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True},
    )
    for path in ["/", "/rules", "/feed", "/join", f"/challenge/{CHALLENGE}"]:
        browser.get(played.url + path)
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 360, path
    browser.get(played.url)
    picture(browser, "phone")
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_can_be_read_in_light_and_in_dark(
    played: Server, browser: "webdriver.Chrome", scheme: str
) -> None:
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    for path in ["/", "/rules", f"/challenge/{CHALLENGE}"]:
        browser.get(played.url + path)
        assert browser.execute_script(LOW_CONTRAST) == [], path
    browser.get(played.url + "/big")
    picture(browser, f"big-{scheme}")


def test_the_keyboard_reaches_the_content_first(played: Server, browser: "webdriver.Chrome") -> None:
    from selenium.webdriver.common.keys import Keys

    browser.get(played.url)
    browser.find_element("css selector", "body").send_keys(Keys.TAB)
    assert browser.switch_to.active_element.text == "Skip to the content"


def test_tables_have_captions_and_headers_for_who_hears_them(
    played: Server, browser: "webdriver.Chrome"
) -> None:
    browser.get(played.url)
    assert browser.find_elements("css selector", "table caption")
    assert browser.find_elements("css selector", 'tbody th[scope="row"]')
    assert not browser.find_elements("css selector", "thead th:not([scope])")
    browser.get(f"{played.url}/challenge/{CHALLENGE}")
    labelled = "return [...document.querySelectorAll('input')].every((one) => one.labels.length)"
    assert browser.execute_script(labelled)


LOW_CONTRAST = """
const channel = (v) => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; };
const light = (rgb) => 0.2126 * channel(rgb[0]) + 0.7152 * channel(rgb[1]) + 0.0722 * channel(rgb[2]);
const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
const colour = (text) => {
  canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = text; canvas.fillRect(0, 0, 1, 1);
  return [...canvas.getImageData(0, 0, 1, 1).data];
};
const behind = (node) => {
  for (; node; node = node.parentElement) {
    const found = colour(getComputedStyle(node).backgroundColor);
    if (found[3] === 255) return found;
  }
  return [255, 255, 255, 255];
};
const bad = [];
for (const node of document.querySelectorAll("main *, header *")) {
  const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
  if (!own || node.closest(".reader, .skip, svg")) continue;
  const [a, b] = [light(colour(getComputedStyle(node).color)), light(behind(node))];
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (ratio < 4.5) bad.push(`${node.textContent.trim().slice(0, 30)}: ${ratio.toFixed(2)}`);
}
return bad;
"""
