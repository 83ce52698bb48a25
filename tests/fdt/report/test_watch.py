"""`fdt watch`: what is served, to whom, and that it follows a run that goes on."""

import json
import shutil
import threading
import urllib.error
import urllib.request

import pytest

from fdt.errors import UserError
from fdt.report.watch import HOST, Watch, build_server, main
from tests.helpers.run_folder import write_arm


@pytest.fixture
def growing(tmp_path):
    """A run before its first measurement, and the same run when it is done."""
    done = write_arm(tmp_path / "done" / "arm")
    early = tmp_path / "early" / "arm"
    early.mkdir(parents=True)
    shutil.copy(done / "config.yaml", early)
    return early, done


@pytest.fixture
def serve():
    servers = []

    def start(*roots):
        watch = Watch(list(roots))
        server = build_server(watch, 0)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return watch, f"http://{HOST}:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def ask(address: str, **headers) -> str:
    with urllib.request.urlopen(urllib.request.Request(address, headers=headers)) as reply:
        return reply.read().decode()


def read_data(page: str) -> dict:
    return json.loads(page.split('id="data">')[1].split("</script>")[0])


def test_the_page_follows_a_run(growing, serve):
    early, done = growing
    watch, address = serve(early)
    page = ask(address)
    assert read_data(page)["panels"] == []
    assert "could not be read" not in page
    version = json.loads(ask(f"{address}/version"))["version"]
    shutil.copytree(done, early, dirs_exist_ok=True)
    watch._rest_until = 0.0  # the pause that keeps the machine for training
    news = json.loads(ask(f"{address}/version"))
    assert news["version"] != version
    assert "arm at step 11" in news["said"]
    data = read_data(ask(address))
    assert "train/reward/mean" in {panel["column"] for panel in data["panels"]}
    assert len(data["episodes"]["id"]) == 48
    first = json.loads(ask(f"{address}/chunk/0-0"))
    assert first[0]["response"].startswith("To add 17 and 25")
    assert json.loads(ask(f"{address}/chunk/9-0")) == []


def test_an_unchanged_run_is_not_made_again(growing):
    watch = Watch([growing[1]])
    page = watch.get_page()
    watch._rest_until = 0.0
    assert watch.get_page() is page


def test_several_runs_are_one_page(tmp_path, serve):
    roots = [write_arm(tmp_path / name) for name in ("one", "two")]
    _, address = serve(*roots, tmp_path / "one")
    names = {run["name"] for run in read_data(ask(address))["runs"]}
    assert {"two"} < names


@pytest.mark.parametrize("path", ["/config.yaml", "/chunk/0-0/../x", "/../run.json", "/chunk/-1-0"])
def test_nothing_else_is_served(growing, serve, path):
    _, address = serve(growing[1])
    with pytest.raises(urllib.error.HTTPError, match="404"):
        ask(address + path)


def test_a_name_that_is_not_this_machines_is_refused(growing, serve):
    _, address = serve(growing[1])
    with pytest.raises(urllib.error.HTTPError, match="403"):
        ask(address, Host="evil.example:80")


def test_faults_are_one_message(tmp_path, serve):
    with pytest.raises(UserError, match="no such run folder"):
        main([str(tmp_path / "nowhere")])
    _, address = serve(tmp_path)
    with pytest.raises(UserError, match="the port cannot be used"):
        main([str(tmp_path), "--port", address.rpartition(":")[2]])
