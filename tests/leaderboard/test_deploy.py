"""What the files in deploy/ name is there: commands, options, services, secrets, folders, extras."""

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from bughunt.cli.root import root

REPOSITORY = Path(__file__).parents[2]
DEPLOY = REPOSITORY / "deploy"
SUBSTITUTED = re.compile(r"\$\{(\w+)(?::[-?][^}]*)?\}")
THEIRS = {  # names of the environment that others read: torch, libpq, uvicorn, PostgreSQL's image, Caddy, Ray
    "OMP_NUM_THREADS", "PGPASSFILE", "FORWARDED_ALLOW_IPS", "POSTGRES_USER", "POSTGRES_DB",
    "POSTGRES_PASSWORD_FILE", "SITE", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH",
}  # fmt: skip


def read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DEPLOY / name).read_text(encoding="utf-8"))
    return found


COMPOSE, CLUSTER = read("compose.yaml"), read("cluster.yaml")
SERVICES = {**COMPOSE["services"], **CLUSTER["services"], "one judge": COMPOSE["services"]["judge"]}


def filled(word: str) -> str:
    """A word as compose hands it over where nothing is set: the default of each variable."""
    return re.sub(r"\$\{\w+(?::[-?]([^}]*))?\}", lambda found: found[1] or "x", word)


def words() -> Iterator[list[str]]:
    """Every command line for bughunt, without its name."""
    for one in SERVICES.values():
        command = one.get("command", [])
        if one.get("entrypoint") == ["sh", "-c"]:
            script = filled(command[0]).split("exec bughunt ")[1]
            yield shlex.split(script)
        elif command:
            yield [filled(word) for word in command]
        test = one.get("healthcheck", {}).get("test", [])
        if test[1:2] == ["bughunt"]:
            yield test[2:]


@pytest.mark.parametrize("line", list(words()), ids=lambda line: " ".join(line)[:40])
def test_every_command_parses_with_the_options_that_bughunt_has(line: list[str]) -> None:
    command: click.Command = root
    context = click.Context(root, info_name="bughunt")
    rest = line
    while isinstance(command, click.Group):
        taken = command.make_context("bughunt", list(rest), parent=context, resilient_parsing=False)
        name, *rest = [*taken._protected_args, *taken.args]
        found = command.get_command(taken, name)
        assert found is not None, name
        command, context = found, taken
    command.make_context(command.name, rest, parent=context)


def test_what_a_service_needs_is_declared() -> None:
    assert set(COMPOSE["services"]) == {"database", "server", "judge", "proxy"}
    for one in SERVICES.values():
        assert set(one.get("networks", [])) <= set(COMPOSE["networks"])
        assert set(one.get("secrets", [])) <= {*COMPOSE["secrets"], *CLUSTER["secrets"]}
        assert set(one.get("depends_on", [])) <= {*COMPOSE["services"], "node"}
        for volume in one.get("volumes", []):
            source = volume.split(":")[0]
            assert source.startswith(("./", "$")) or source in COMPOSE["volumes"]
            assert not source.startswith("./") or (DEPLOY / source).is_file()


def test_secrets_are_files_and_no_password_is_in_the_environment() -> None:
    assert all(list(one) == ["file"] for part in (COMPOSE, CLUSTER) for one in part["secrets"].values())
    assert "secrets/" in (REPOSITORY / ".gitignore").read_text(encoding="utf-8")
    for one in SERVICES.values():
        names = set(one.get("environment", {}))
        assert names <= THEIRS
        assert not {name for name in names if "PASSWORD" in name and not name.endswith("_FILE")}


def test_a_cluster_takes_orders_only_with_the_token() -> None:
    for one in CLUSTER["services"].values():
        assert one["environment"]["RAY_AUTH_MODE"] == "token"
        assert one["environment"]["RAY_AUTH_TOKEN_PATH"] == "/run/secrets/ray"
        assert "ray" in one["secrets"]


def test_judges_have_a_wall_and_no_way_out() -> None:
    assert COMPOSE["networks"]["inside"]["internal"] is True
    for name in ("one judge", "node"):
        one = SERVICES[name]
        assert one["runtime"].startswith("${JUDGE_RUNTIME")
        assert one["networks"] == ["inside"]
        assert one["read_only"] is True
    assert COMPOSE["services"]["judge"]["deploy"]["resources"]["limits"].keys() >= {"memory", "pids"}


def test_every_service_says_whether_it_is_well() -> None:
    assert all("healthcheck" in one for one in COMPOSE["services"].values())


def test_every_variable_is_in_the_hosts_guide() -> None:
    guide = (REPOSITORY / "docs" / "host.md").read_text(encoding="utf-8")
    text = "".join((DEPLOY / name).read_text(encoding="utf-8") for name in ("compose.yaml", "cluster.yaml"))
    for variable in {found[1] for found in SUBSTITUTED.finditer(text)}:
        assert f"`{variable}`" in guide, variable


def test_the_image_is_made_from_what_is_here() -> None:
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    copied = [word for line in re.findall(r"^COPY (.*)$", text, re.M) for word in line.split()[:-1]]
    assert all((REPOSITORY / name).exists() for name in copied)
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").split()
    assert {f"!{name}" for name in copied} == {line for line in ignored if line.startswith("!")}
    (extra,) = re.findall(r'"/src\[(\w+)\]"', text)
    assert extra in project["optional-dependencies"]
    (entry,) = re.findall(r'^ENTRYPOINT \["(\w+)"\]$', text, re.M)
    assert entry in project["scripts"]
    wheel = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"][
        "build"
    ]
    roots = {path.split("/")[0] for path in wheel["targets"]["wheel"]["packages"]}
    assert roots <= set(copied)


def test_the_proxy_speaks_to_the_server_on_its_port() -> None:
    text = (DEPLOY / "Caddyfile").read_text(encoding="utf-8")
    ports = [
        word.removeprefix("--port=") for word in COMPOSE["services"]["server"]["command"] if "--port" in word
    ]
    assert f"reverse_proxy server:{ports[0]}" in text
    assert text.count("{") == text.count("}")
