"""The acts of officials over HTTP: each for tokens with its scope, each a line of the audit log."""

from collections.abc import Iterator

import httpx
import pytest
from bughunt_leaderboard.refusals import MalformedError
from bughunt_leaderboard.roster import Entry, read_roster
from bughunt_leaderboard.scopes import SCOPES, narrowed
from serving import CHALLENGE, Server, official, serving

from bughunt.errors import UsageError

PATHS = [
    ("POST", "freeze", "course"), ("PUT", "rounds", "course"), ("POST", "teams/1/extension", "course"),
    ("POST", "invites", "people"), ("GET", "tokens", "people"), ("DELETE", "tokens/1", "people"),
    ("DELETE", "people/1", "people"), ("DELETE", "teams/1?confirm=Red", "people"),
    ("POST", "rejudgings", "judging"), ("PUT", "submissions/1/flag", "judging"),
    ("GET", "audit", "audit"), ("GET", "results.csv", "audit"),
]  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("cup") / "cup") as server:
        yield server


def with_scopes(server: Server, *scopes: str) -> httpx.Client:
    return server.client(server.referee.grant("host", "admin", "some", scopes))


def act(client: httpx.Client, method: str, path: str, **body: object) -> httpx.Response:
    return client.request(method, f"/api/v1/admin/{path}", json=body or None)


@pytest.mark.parametrize(("method", "path", "scope"), PATHS, ids=[path for _, path, _ in PATHS])
def test_a_path_is_there_for_who_has_its_scope_and_for_no_player(
    server: Server, method: str, path: str, scope: str
) -> None:
    body = {"why": "", "role": "", "name": "x"}  # fits no path, so nothing happens to who gets through
    others = [one for one in SCOPES if one != scope]
    player = server.client(server.referee.join(server.referee.invite("host", f"P {path}"[:30]), "p")[0])
    with server.client() as nobody:
        assert act(nobody, method, path, **body).status_code == 401
    assert act(player, method, path, **body).status_code == 404
    assert act(official(server, "observer")[0], method, path, **body).status_code == 403
    assert act(with_scopes(server, *others), method, path, **body).status_code == 403


def test_an_admin_runs_a_competition_from_afar_and_the_audit_log_says_who(server: Server) -> None:
    admin, person = official(server, "admin")
    invite = act(admin, "POST", "invites", team="Green", division="students").json()["token"]
    team = server.referee.join(invite, "ada")[1].team
    assert act(admin, "POST", f"teams/{team}/extension", minutes=5).status_code == 200
    for word in ("freeze", "unfreeze", "pause", "resume"):
        assert act(admin, "POST", word).status_code == 200
    assert server.referee.fresh().teams[team].extension == 300_000  # type: ignore[index]
    assert "Green,students" in act(admin, "GET", "results.csv").text
    entries = act(admin, "GET", "audit").json()["entries"]
    assert person.who in {entry["who"] for entry in entries}
    assert act(admin, "DELETE", f"teams/{team}?confirm=Red").status_code == 409
    assert act(admin, "DELETE", f"teams/{team}?confirm=Green").status_code == 200
    assert team not in server.referee.fresh().teams


def test_a_judge_judges_again_and_looks_before_it_applies(server: Server) -> None:
    judge, _ = official(server, "judge")
    player, _ = server.join("Red")
    body = {"challenge": CHALLENGE, "files": {"train.py": "x = 1\n"}}
    number = player.post("/api/v1/submissions", json=body).json()["submission"]
    server.judge("UNFIXED")
    assert act(judge, "PUT", f"submissions/{number}/flag", why="a copy").status_code == 200
    assert act(judge, "DELETE", f"submissions/{number}/flag").status_code == 200
    assert act(judge, "PUT", "submissions/999/flag", why="none").status_code == 404
    again = act(judge, "POST", "rejudgings", submissions=[number]).json()["rejudging"]
    assert act(judge, "POST", f"rejudgings/{again}/apply").status_code == 409
    server.judge("SOLVED")
    changed = act(judge, "GET", f"rejudgings/{again}").json()["changed"]
    assert changed == [{"submission": number, "before": "UNFIXED", "after": "SOLVED"}]
    assert act(judge, "POST", f"rejudgings/{again}/apply").status_code == 200


def test_nobody_grants_more_than_they_have(server: Server) -> None:
    registrar = with_scopes(server, "people")
    assert act(registrar, "POST", "tokens", role="admin", name="x").status_code == 403
    assert act(registrar, "POST", "tokens", role="judge", name="x").status_code == 403
    made = act(registrar, "POST", "tokens", role="admin", name="x", scopes=["people"])
    assert made.status_code == 201
    assert act(server.client(made.json()["token"]), "GET", "tokens").status_code == 200
    assert act(server.client(made.json()["token"]), "GET", "audit").status_code == 403


def test_a_token_that_expires_or_is_revoked_opens_nothing(server: Server) -> None:
    admin, person = official(server, "admin")
    gone = server.client(server.referee.grant("host", "admin", "brief", hours=1e-9))
    assert act(gone, "GET", "audit").status_code == 401
    assert act(admin, "DELETE", f"tokens/{person.token}").status_code == 200
    assert act(admin, "GET", "audit").status_code == 401


def test_a_person_who_is_forgotten_leaves_no_name_behind(server: Server) -> None:
    invite = server.referee.invite("host", "Grey")
    _, person = server.referee.join(invite, "somebody@example.org")
    server.referee.forget("host", person.token)
    with server.referee.store.reading() as connection:
        for table in ("token", "event", "audit"):
            assert "somebody@" not in str(connection.exec_driver_sql(f"SELECT * FROM {table}").all())


@pytest.mark.parametrize(("role", "scopes"), [("judge", ["people"]), ("owner", []), ("admin", ["all"])])
def test_a_scope_that_a_role_cannot_have_is_refused(role: str, scopes: list[str]) -> None:
    with pytest.raises(MalformedError):
        narrowed(role, scopes)


def test_a_roster_is_read_with_what_it_leaves_out() -> None:
    lines = ["team,division,members", "Red,students,3", " Blue ,,"]
    assert read_roster(lines, 5) == [Entry("Red", "students", 3), Entry("Blue", "", 5)]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], "no column 'team'"),
        (["name", "Red"], "no column 'team'"),
        (["team", "Red", "Red"], "line 3: team Red is there twice"),
        (["team,members", "Red,many"], "line 2: members is many"),
        (["team,members", "Red,9"], "line 2: members is 9"),
        (["team", "x" * 50], "line 2: a name has"),
    ],
    ids=["empty", "other columns", "twice", "a word", "too many", "a long name"],
)
def test_a_roster_with_a_fault_names_its_line(lines: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        read_roster(lines, 5)
