"""Play a competition of twenty simulated teams from its start to a rejudging, with a picture of each page.

`python benchmarks/exhibition.py FOLDER` writes the pictures there; the host's guide has its in docs/images/.

Server, pages and rules are the real ones. The clock is set back by most of an hour and goes on in steps, and
verdicts are drawn from a seed instead of judged, so that an hour of play takes seconds. Needs Chromium.
"""

import argparse
import io
import random
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from bughunt_leaderboard import clock
from bughunt_leaderboard.app import make_app
from bughunt_leaderboard.host import Plan, prepare
from bughunt_leaderboard.people import Person
from bughunt_leaderboard.referee import Referee
from bughunt_leaderboard.rules import Rules
from bughunt_leaderboard.store import Store
from crowd import server
from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from bughunt.bugsets import library

NAMES = (
    "Red Pandas", "Nullpointers", "Gradient Descent", "Off By One", "The Residuals", "Loss Boys", "Seed 42",
    "Overfitters", "Kernel Panic", "Dropouts", "Vanishing Act", "Batch Norms", "Argmaxers", "Cold Start",
    "Warm Restart", "Mask Makers", "Tensor Tamers", "Epoch Fail", "Backprop Stars", "Early Stoppers",
)  # fmt: skip
STUDENTS = 6  # teams of the second division
FAILURES = ("UNFIXED", "PARTIAL", "ERROR")
MINUTE = 60_000
SWITCHES = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-dev-shm-usage",
            "--window-size=1180,760")  # fmt: skip
PHONE = {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True}


class Show:
    """A competition whose clock goes as it is told."""

    def __init__(self, folder: Path) -> None:
        self.real, self.ahead = clock.now, -50 * MINUTE
        clock.now = lambda: self.real() + self.ahead  # type: ignore[assignment]
        teams = {name: "students" if number < STUDENTS else "" for number, name in enumerate(reversed(NAMES))}
        plan = Plan(data=folder / "cup", bugset=library.find_set("starter"), name="Friday's hunt", minutes=60,
                    teams=teams, rules=Rules(quota=1000))  # fmt: skip
        self.made, self.invites = prepare(plan)
        self.referee = Referee(Store(self.made.database))
        self.challenges = self.made.challenges()
        self.draw, self.sent = random.Random(7), 0

    @contextmanager
    def served(self) -> Iterator[str]:
        port = server.free_port()
        running = uvicorn.Server(uvicorn.Config(make_app(self.made), port=port, log_level="warning"))
        thread = threading.Thread(target=running.run, daemon=True)
        thread.start()
        server.wait_for(port)
        yield f"http://127.0.0.1:{port}"
        running.should_exit = running.force_exit = True
        thread.join(20)

    def send(self, team: int, challenge: str) -> None:
        self.sent += 1
        program = {"train.py": f"x = {self.sent}\n"}
        self.referee.submit(Person(0, "captain", team), challenge, program, str(self.sent))

    def judge(self, outcome: str | None = None) -> None:
        """Give the oldest that waits a verdict, the better the team the better."""
        lease = self.referee.queue.claim("show")
        if lease is None:
            return
        solves = self.draw.random() < 0.6 * (1 - lease.team / 26)
        drawn = outcome or ("SOLVED" if solves else self.draw.choice(FAILURES))
        self.referee.queue.finish(lease, drawn, self.said(lease.challenge, drawn))

    def said(self, challenge: str, outcome: str) -> dict[str, Any]:
        curves, solved = self.challenges[challenge].curves(), outcome == "SOLVED"
        runs = curves.reference if solved else curves.broken
        shown = [{"steps": list(curves.steps), "values": list(run)} for run in runs[:3]]
        return {
            "outcome": outcome, "score": 100.0 * solved, "recovery": 1.0 if solved else 0.2, "changed": 2,
            "tests": {"passed": 9 if solved else 7, "total": 9}, "detail": "",
            "curves": [] if outcome == "ERROR" else shown,
        }  # fmt: skip

    def play(self, minutes: int) -> None:
        """So many minutes of everybody's submissions."""
        ids = sorted(self.challenges, key=lambda one: self.challenges[one].level)
        for _ in range(minutes):
            self.ahead += MINUTE
            for team in range(1, len(NAMES) + 1):
                if self.draw.random() < 0.42 - team / 60:
                    state = self.referee.fresh()
                    open_ = [one for one in ids if team not in state.solvers(one)]
                    self.send(team, open_[min(len(open_) - 1, int(self.draw.expovariate(0.35)))])
            while self.referee.queue.length():
                self.judge()


class Camera:
    """A browser that writes what it sees."""

    def __init__(self, url: str, folder: Path) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium") or "chromium"
        for switch in SWITCHES:
            options.add_argument(switch)
        self.browser = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
        self.url, self.folder = url, folder
        folder.mkdir(parents=True, exist_ok=True)

    def take(self, name: str, path: str, scheme: str = "light", phone: bool = False) -> None:
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        if phone:
            self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)
        self.browser.get(self.url + path)
        time.sleep(0.5)
        picture = Image.open(io.BytesIO(self.browser.get_screenshot_as_png())).convert("RGB")
        picture.quantize(64, dither=Image.Dither.NONE).save(self.folder / f"{name}.png", optimize=True)
        self.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        print(f"{name}.png  {path}")

    def join(self, invite: str, name: str) -> None:
        self.browser.get(f"{self.url}/join?invite={invite}")
        self.browser.find_element("id", "name").send_keys(name)
        self.browser.find_element("css selector", "main button").click()


def perform(show: Show, url: str, camera: Camera) -> None:
    """From the invites to a rejudging that is applied."""
    camera.take("join", f"/join?invite={show.invites[NAMES[3]]}")
    for name in NAMES:
        if name != NAMES[3]:
            httpx.post(
                f"{url}/api/v1/join", json={"invite": show.invites[name], "name": "ada"}
            ).raise_for_status()
        else:
            camera.join(show.invites[name], "Grace")
    team = NAMES.index(NAMES[3]) + 1
    show.play(38)
    favourite = max(show.challenges, key=lambda one: len(show.referee.fresh().solvers(one)))
    show.send(team, favourite)
    show.judge("PARTIAL")
    camera.take("board", "/")
    camera.take("board-dark", "/", "dark")
    camera.take("challenge", f"/challenge/{favourite}")
    camera.take("team", f"/team/{team}")
    camera.take("feed", "/feed")
    camera.take("rules", "/rules")
    camera.take("phone", "/", phone=True)
    camera.take("phone-challenge", f"/challenge/{favourite}", "dark", phone=True)
    show.referee.freeze("host")
    show.play(10)
    camera.take("frozen", "/")
    camera.take("big", "/big", "dark")
    show.referee.unfreeze("host")
    camera.take("unfrozen", "/")
    solved = [one.id for one in show.referee.fresh().submissions.values()
              if one.challenge == favourite and one.outcome == "SOLVED"]  # fmt: skip
    rejudging = show.referee.rejudge("host", solved)
    for _ in solved:
        show.judge("UNFIXED")
    moved = show.referee.compare(rejudging)["moved"]
    show.referee.apply("host", rejudging)
    camera.take("rejudged", "/")
    state = show.referee.fresh()
    print(f"{len(NAMES)} teams, {show.sent} submissions, {state.seq} events")
    print(f"{len(solved)} verdicts changed by judging again, {len(moved)} teams moved")
    if state.solvers(favourite) or len(moved) < len(solved):
        sys.exit("the rejudging is not on the board")


def main(folder: Path) -> None:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
        show = Show(Path(place))
        with show.served() as url:
            camera = Camera(url, folder)
            try:
                perform(show, url, camera)
            finally:
                camera.browser.quit()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, default=Path("docs/images"), metavar="FOLDER")
    main(parser.parse_args().folder)
