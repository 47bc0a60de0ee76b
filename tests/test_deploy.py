"""The files of deploy/ say what the service knows: its options, its ports, its paths, its limits."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import photolabel
from photolabel.cli import serve
from photolabel.server import Settings, heads

from conftest import ROOT
from services import there

DEPLOY = ROOT / "deploy"
CONTAINER = (DEPLOY / "Containerfile").read_text("utf-8")
UNIT = (DEPLOY / "photolabel.service").read_text("utf-8")
NGINX = (DEPLOY / "nginx.conf").read_text("utf-8")
CADDY = (DEPLOY / "Caddyfile").read_text("utf-8")
KEY = "a-key-of-sixteen-and-more"


def instruction(name: str) -> str:
    """The last of such an instruction of the Containerfile, its lines joined."""
    return re.findall(rf"^{name} (.*)$", CONTAINER.replace("\\\n", ""), re.MULTILINE)[-1].strip()


def of_unit(name: str) -> list[str]:
    return re.findall(rf"^{name}=(.*)$", UNIT, re.MULTILINE)


def container_words() -> list[str]:
    return [*json.loads(instruction("ENTRYPOINT"))[2:], *json.loads(instruction("CMD"))]


def unit_words() -> list[str]:
    return shlex.split(of_unit("ExecStart")[0])[2:]


@pytest.mark.parametrize("words", [container_words(), unit_words()], ids=["container", "unit"])
def test_the_service_starts_so(words: list[str], tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text(KEY)
    args = serve.parser().parse_args(words)
    args.api_key_file = str(key)
    assert serve._settings(args).api_keys == (KEY,) and args.port == 8000
    assert args.model == ["efficientnet-lite2"] and args.precision == "int8"


def test_all_options_that_are_named_are_known() -> None:
    known = set(serve.parser()._option_string_actions)
    for path in DEPLOY.iterdir():
        for line in re.findall(r"photolabel serve(.*)$", path.read_text("utf-8"), re.MULTILINE):
            for option in re.findall(r"(?<!\S)--[a-z-]+", line):
                assert option in known, f"{path.name}: {option}"


def test_the_container_is_nobody_s() -> None:
    user, group = instruction("USER").split(":")
    assert int(user) > 1000 and int(group) > 1000
    assert f"--chown={user}:{group}" in CONTAINER and f"chown -R {user}:{group}" in CONTAINER
    last = CONTAINER[CONTAINER.rindex("\nFROM ") :]
    assert "\nRUN" not in last  # nothing there needs a shell
    for name in ("ENTRYPOINT", "CMD", "HEALTHCHECK .* CMD"):
        assert isinstance(json.loads(instruction(name)), list)
    assert instruction("STOPSIGNAL") == "SIGTERM"
    assert instruction("EXPOSE") == "8000" and json.loads(instruction("VOLUME")) == ["/cache"]
    assert "PHOTOLABEL_CACHE=/cache" in instruction("ENV")


def test_the_container_copies_what_there_is() -> None:
    """Also past the file that says what is not sent to the builder."""
    kept = {line[1:] for line in (DEPLOY / "Containerfile.dockerignore").read_text().splitlines() if line[:1] == "!"}
    copied = {name for line in re.findall(r"^COPY (?!--)(.*)$", CONTAINER, re.MULTILINE) for name in line.split()[:-1]}
    assert copied == kept
    for name in copied:
        assert (ROOT / name).exists()
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    assert 'readme = "README.md"' in project and 'license-files = ["LICENSE"' in project


def test_the_health_check_of_the_container_works(tiny: Path) -> None:
    program, *words = json.loads(instruction("HEALTHCHECK .* CMD"))
    assert program.endswith("/python")
    path = re.search(r"127\.0\.0\.1:8000(/[a-z0-9/]+)", words[1])
    assert path and path[1] in heads.KEYLESS

    def check(port: int) -> int:
        asked = [each.replace("8000", str(port)) for each in words]
        return subprocess.run([sys.executable, *asked], capture_output=True, check=False, timeout=60).returncode

    with photolabel.load(tiny) as classifier, there(classifier, Settings(workers=1, api_keys=(KEY,))) as (port, _):
        assert check(port) == 0
    assert check(port) != 0


def test_the_unit_gives_time_to_end() -> None:
    settings = Settings()
    assert float(of_unit("TimeoutStopSec")[0]) > settings.notice_seconds + settings.drain_seconds + 2
    assert int(of_unit("LimitNOFILE")[0]) >= settings.connections + 256
    assert of_unit("LoadCredential")[0].partition(":")[0] == unit_words()[unit_words().index("--api-key-file") + 1][25:]
    assert of_unit("CacheDirectory") == ["photolabel"] and "PHOTOLABEL_CACHE=/var/cache/photolabel" in UNIT
    for guarded in ("DynamicUser=yes", "ProtectSystem=strict", "NoNewPrivileges=yes", "CapabilityBoundingSet="):
        assert f"\n{guarded}\n" in UNIT


def test_proxies_let_through_what_the_service_takes() -> None:
    settings = Settings()
    most = re.search(r"client_max_body_size ([0-9]+)m;", NGINX)
    assert most and int(most[1]) << 20 >= settings.largest
    most = re.search(r"max_size ([0-9]+)MiB", CADDY)
    assert most and int(most[1]) << 20 >= settings.largest
    for kept in (re.search(r"keepalive_timeout ([0-9]+)s", NGINX), re.search(r"keepalive ([0-9]+)s", CADDY)):
        assert kept and int(kept[1]) < settings.idle_seconds  # or a request may meet a connection that ends
    many = re.search(r"limit_conn photolabel_clients ([0-9]+);", NGINX)
    assert many and int(many[1]) <= settings.queue // 2
    for text in (NGINX, CADDY):
        assert "127.0.0.1:8000" in text and "--allow-host photos.example" in text
    assert "proxy_set_header Host $host;" in NGINX


def test_the_page_tells_of_every_file() -> None:
    page = (ROOT / "docs" / "serve.md").read_text("utf-8")
    for path in DEPLOY.iterdir():
        assert f"../deploy/{path.name}" in page or path.suffix == ".dockerignore"


# -- as their own programs see them


def said(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    return f"{done.returncode} {done.stdout}{done.stderr}"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / "photolabel.service"
    unit.write_text(UNIT.replace("/opt/photolabel/bin/photolabel", shutil.which("true") or "true"))
    assert said("systemd-analyze", "verify", "--man=no", unit) == "0 "


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")
def test_nginx_understands_its_file(tmp_path: Path) -> None:
    site = re.sub(r"(?m)^ *ssl_certificate.*$", "", NGINX).replace("listen 443 ssl", "listen 127.0.0.1:8443")
    paths = "".join(f"{kind}_temp_path {tmp_path}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi"))
    paths += "".join(f"{kind}_temp_path {tmp_path}/{kind};\n" for kind in ("uwsgi", "scgi"))
    whole = tmp_path / "nginx.conf"
    whole.write_text(
        f"pid {tmp_path}/pid;\nerror_log {tmp_path}/errors;\nevents {{}}\nhttp {{\naccess_log off;\n{paths}{site}}}\n"
    )
    assert said("nginx", "-t", "-c", whole).startswith("0 ")


@pytest.mark.skipif(shutil.which("caddy") is None, reason="Caddy is not installed")
def test_caddy_understands_its_file() -> None:
    assert said("caddy", "validate", "--adapter", "caddyfile", "--config", DEPLOY / "Caddyfile").startswith("0 ")
