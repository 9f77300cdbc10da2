"""The API over a real connection to a real server."""

import io
import json
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from bughunt_leaderboard import clock, view
from bughunt_leaderboard.backup import backup, restore
from bughunt_leaderboard.referee import Referee
from bughunt_leaderboard.store import Store
from databases import fresh_database
from serving import CHALLENGE, Server, next_events, official, serving

from bughunt.errors import IntegrityError

PROGRAM = {"train.py": "x = 1\n"}
SURFACES = ["/", "/big", "/feed", "/api/v1/board", "/api/v1/feed", "/api/v1/ctftime",
            "/api/v1/export/board.csv", "/api/v1/export/events.jsonl", f"/challenge/{CHALLENGE}"]  # fmt: skip


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path / "cup") as server:
        yield server


def send(client: httpx.Client, key: str, text: str = "x = 1\n", challenge: str = CHALLENGE) -> httpx.Response:
    body = {"challenge": challenge, "files": {"train.py": text}}
    return client.post("/api/v1/submissions", json=body, headers={"idempotency-key": key})


def test_a_submission_is_accepted_judged_and_on_the_board(server: Server) -> None:
    client, team = server.join("Red")
    accepted = send(client, "k")
    assert accepted.status_code == 202
    number = accepted.json()["submission"]
    assert client.get(f"/api/v1/submissions/{number}").json()["state"] == "waiting"
    server.judge()
    server.caught_up(client)
    one = client.get(f"/api/v1/submissions/{number}").json()
    assert (one["state"], one["outcome"]) == ("done", "SOLVED")
    row = client.get("/api/v1/board").json()["teams"][0]
    assert (row["team"], row["points"]) == (team, 105)
    assert row["cells"][CHALLENGE]["first"]


def test_each_team_has_a_text_of_its_own_and_nothing_sealed(server: Server) -> None:
    one = server.referee.fresh().rounds["Round 1"]
    server.referee.set_round("host", one.name, one.start, one.end, list(one.challenges)[:3])
    red, blue = (server.join(team)[0].get("/api/v1/bundle").json() for team in ("Red", "Blue"))
    texts = [{c["id"]: c["files"]["train.py"] for c in bundle["challenges"]} for bundle in (red, blue)]
    assert len(texts[0]) == 3
    assert all(texts[0][id_] != texts[1][id_] for id_ in texts[0])
    names = {name for c in red["challenges"] for name in c["files"]}
    assert not {name for name in names if "sealed" in name}


@pytest.mark.parametrize("path", ["me", "bundle", "submissions/1", "submissions/1/files"])
def test_without_a_token_nothing_of_a_teams_is_told(server: Server, path: str) -> None:
    with server.client() as client:
        assert client.get(f"/api/v1/{path}").status_code == 401
    with server.client("forged") as client:
        assert client.get(f"/api/v1/{path}").status_code == 401


def test_another_teams_submission_does_not_exist(server: Server) -> None:
    red, blue = server.join("Red")[0], server.join("Blue")[0]
    number = send(red, "k").json()["submission"]
    assert blue.get(f"/api/v1/submissions/{number}").status_code == 404
    assert blue.get(f"/api/v1/submissions/{number}/files").status_code == 404
    assert red.get(f"/api/v1/submissions/{number}/files").json() == PROGRAM


def test_a_huge_body_is_refused_before_it_is_read(server: Server) -> None:
    client, _ = server.join("Red")
    assert send(client, "k", "x" * 2_000_000).status_code == 413


def test_the_door_closes_for_who_tries_many_invites(server: Server) -> None:
    with server.client() as client:
        answers = [
            client.post("/api/v1/join", json={"invite": f"guess {n}", "name": "eve"}).status_code
            for n in range(25)
        ]
    assert answers[0] == 404
    assert answers[-1] == 429


def test_a_frozen_board_is_as_it_was_on_every_surface(server: Server) -> None:
    red, blue = server.join("Red")[0], server.join("Blue")[0]
    send(red, "a")
    server.judge()
    server.referee.freeze("host")
    server.caught_up(red)
    with server.client() as public:
        before = {path: public.get(path).text for path in SURFACES}
        send(blue, "b", "y = 1\n")
        server.judge()
        server.caught_up(red)
        after = {path: public.get(path).text for path in SURFACES}
        assert after == before
        judge, _ = official(server, "judge")
        assert len([r for r in judge.get("/api/v1/board").json()["teams"] if r["points"]]) == 2
        server.referee.unfreeze("host")
        server.caught_up(red)
        assert public.get("/api/v1/board").json()["teams"] == judge.get("/api/v1/board").json()["teams"]


@pytest.mark.parametrize("path", ["/api/v1/board", "/", "/feed", "/big", "/api/v1/export/events.jsonl"])
def test_who_has_the_newest_answer_already_is_told_so_until_it_changes(server: Server, path: str) -> None:
    client, _ = server.join("Red")
    server.caught_up(client)
    with server.client() as public:
        first = public.get(path)
        again = public.get(path, headers={"if-none-match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        send(client, "k")
        server.judge()
        server.caught_up(client)
        now = public.get(path, headers={"if-none-match": first.headers["etag"]})
        assert now.status_code == 200
        assert now.text != first.text


def test_a_long_board_has_pages_and_says_where_ones_own_team_stands(server: Server) -> None:
    for number in range(101):
        server.referee.join(server.referee.invite("host", f"Team {number}"), "ada")
    client, team = server.join("Red")
    server.caught_up(client)
    first, second = (client.get(f"/?page={page}").text for page in (1, 2))
    assert [page.count('<th scope="row">') for page in (first, second)] == [100, 2]
    assert all('Your team is in <a href="/?page=2">place 102</a>' in page for page in (first, second))
    assert 'class="own"' in second
    assert len(client.get("/api/v1/board").json()["teams"]) == 102
    assert client.get("/api/v1/board").json()["teams"][-1]["team"] == team


def test_what_is_kept_for_everybody_is_not_what_an_official_sees(server: Server) -> None:
    client, _ = server.join("Red")
    server.referee.freeze("host")
    send(client, "k")
    server.judge()
    server.caught_up(client)
    judge, _ = official(server, "judge")
    with server.client() as public:
        shown = [one.get("/api/v1/board").json()["teams"][0]["points"] for one in (public, judge, public)]
    assert shown == [0, 105, 0]


def test_a_stream_goes_on_where_one_left_off(server: Server) -> None:
    client, _ = server.join("Red")
    server.caught_up(client)
    seen = client.get("/api/v1/board").json()["seq"]
    send(client, "k")
    with client.stream("GET", "/api/v1/stream", headers={"last-event-id": str(seen)}) as stream:
        (one,) = next_events(stream.iter_lines(), 1)
    assert (one["event"], int(one["id"])) == ("board", seen + 1)


def test_a_stream_from_the_future_is_refused(server: Server) -> None:
    with server.client() as client:
        assert client.get("/api/v1/stream", headers={"last-event-id": "99999"}).status_code == 409


def test_a_watcher_hears_of_a_change_within_a_second(server: Server) -> None:
    client, _ = server.join("Red")
    server.caught_up(client)
    with client.stream("GET", "/api/v1/stream") as stream:
        send(client, "k")
        (one,) = next_events(stream.iter_lines(), 1)
    assert one["event"] == "board"


def test_ctftimes_feed_has_what_it_asks_for(server: Server) -> None:
    client, _ = server.join("Red")
    send(client, "k")
    server.judge()
    server.caught_up(client)
    answer = client.get("/api/v1/ctftime")
    assert answer.text.isascii()
    found = answer.json()
    assert found["standings"][0].keys() == {"pos", "team", "score", "taskStats", "lastAccept"}
    assert set(found["standings"][0]["taskStats"]) <= set(found["tasks"])


def test_a_name_that_a_spreadsheet_would_run_is_quoted(server: Server) -> None:
    invite = server.referee.invite("host", "=1+1")
    server.referee.join(invite, "ada")
    with server.client() as client:
        server.caught_up(client)
        assert "'=1+1" in client.get("/api/v1/export/board.csv").text


def test_health_and_metrics_tell_the_queue(server: Server) -> None:
    client, _ = server.join("Red")
    send(client, "k")
    assert client.get("/healthz").json()["queue"] == 1
    lines = client.get("/metrics").text.splitlines()
    assert 'bughunt_queue_jobs{state="waiting"} 1' in lines
    assert 'bughunt_requests_total{method="POST",status="202"} 1' in lines


def test_every_line_of_the_metrics_is_one_that_prometheus_reads(server: Server) -> None:
    client, _ = server.join("Red")
    lines = client.get("/metrics").text.splitlines()
    sample = re.compile(r'[a-z_]+(\{[a-z]+="[^"]*"(,[a-z]+="[^"]*")*\})? -?[0-9.]+')
    heads = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert all(line.startswith(("# HELP", "# TYPE")) or sample.fullmatch(line) for line in lines)
    assert {line.split("{")[0].split(" ")[0] for line in lines if line[0] != "#"} == set(heads)


def test_a_form_from_elsewhere_has_no_cookie_to_ride_on(server: Server) -> None:
    with server.client() as client:
        answer = client.post("/join", data={"invite": server.invites["Red"], "name": "ada"})
    assert answer.status_code == 303
    assert {"HttpOnly", "SameSite=strict"} <= set(answer.headers["set-cookie"].split("; "))


def test_every_page_is_whole_and_forbids_foreign_scripts(server: Server) -> None:
    client, team = server.join("Red")
    for path in ["/", "/big", "/feed", "/rules", "/join", f"/team/{team}", f"/challenge/{CHALLENGE}"]:
        answer = client.get(path)
        assert answer.status_code == 200
        assert answer.text.rstrip().endswith("</html>")
        assert "default-src 'self'" in answer.headers["content-security-policy"]
    missing = client.get("/team/99", headers={"accept": "text/html"})
    assert missing.status_code == 404
    assert "no team 99" in missing.text


def test_a_backup_restored_gives_the_same_board_byte_for_byte(server: Server, tmp_path: Path) -> None:
    client, _ = server.join("Red")
    send(client, "a")
    server.judge()
    send(client, "b", "y = 2\n")
    file = tmp_path / "cup.tar.gz"
    backup(server.folder, file)
    folder = restore(file, tmp_path / "again")
    assert folder.key == server.folder.key
    again = Referee(Store(folder.database))
    assert again.fresh().standings() == server.referee.fresh().standings()
    assert again.store.events() == server.referee.store.events()
    assert again.queue.length() == 1
    assert again.store.broken_link() is None


@pytest.mark.postgres
def test_a_backup_moves_from_sqlite_to_postgresql_and_counts_on(
    server: Server, tmp_path: Path, postgres: str
) -> None:
    client, _ = server.join("Red")
    first = send(client, "a").json()["submission"]
    backup(server.folder, tmp_path / "cup.tar.gz")
    folder = restore(tmp_path / "cup.tar.gz", tmp_path / "again", fresh_database(postgres))
    again = Referee(Store(folder.database))
    person = again.person(client.headers["authorization"].removeprefix("Bearer "))
    assert again.submit(person, CHALLENGE, PROGRAM, "b") == first + 1
    again.store.close()


@pytest.mark.postgres
def test_a_backup_moves_from_postgresql_to_sqlite_with_the_same_board_and_goes_on(
    tmp_path: Path, postgres: str
) -> None:
    with serving(tmp_path / "cup", database=fresh_database(postgres)) as server:
        client, _ = server.join("Red")
        send(client, "a")
        server.judge()
        send(client, "b", "y = 2\n")
        server.caught_up(client)
        shown = client.get("/api/v1/board").content
        backup(server.folder, tmp_path / "cup.tar.gz")
    folder = restore(tmp_path / "cup.tar.gz", tmp_path / "again")
    again = Referee(Store(folder.database))
    assert json.dumps(view.board(again.fresh(), clock.now())).encode() == shown
    lease = again.queue.claim("test")
    assert lease is not None
    assert lease.files == {"train.py": "y = 2\n"}
    assert again.queue.finish(lease, "PARTIAL", {"outcome": "PARTIAL", "score": 0.0})
    again.store.close()


def test_a_damaged_backup_is_refused(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "cup.tar.gz"
    backup(server.folder, file)
    with tarfile.open(file) as archive:
        parts = {about.name: archive.extractfile(about).read() for about in archive}  # type: ignore[union-attr]
    parts["tables/event.jsonl"] = parts["tables/event.jsonl"].replace(b"Cup", b"Cap")
    with tarfile.open(file, "w:gz") as archive:
        for name, content in parts.items():
            about = tarfile.TarInfo(name)
            about.size = len(content)
            archive.addfile(about, io.BytesIO(content))
    with pytest.raises(IntegrityError, match="damaged"):
        restore(file, tmp_path / "again")


def test_the_description_names_every_path_under_its_version(server: Server) -> None:
    with server.client() as client:
        paths = json.loads(client.get("/openapi.json").text)["paths"]
    assert {path for path in paths if not path.startswith("/api/v1/")} == {"/healthz", "/metrics"}
