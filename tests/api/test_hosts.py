"""Which names the server answers to, and whose pages may use it."""

import http.client
import threading
from collections.abc import Iterator

import pytest
import uvicorn
from fastapi.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from studio.api.app import bare_app, create_app
from studio.api.auth import Access
from studio.api.hosts import Hosts, allowed_hosts
from studio.engine import Engine
from studio.errors import InputError
from studio.settings import Paths

OURS = ("127.0.0.1", "127.0.0.1:7860", "localhost", "LOCALHOST:7860", "[::1]", "[::1]:7860", "[0:0:0:0:0:0:0:1]:7860")
FOREIGN = (
    "evil.example",
    "127.0.0.1.evil.example",
    "localhost.evil.example",
    "localhost.",
    "127.0.0.1.",
    "localhost:80@evil.example",
    "evil@localhost",
    "evil.example#localhost",
    "localhost/evil.example",
    "localhost, evil.example",
    "localhost:",
    "localhost:port",
    "127.1",
    "127.0.0.2",
    "0x7f000001",
    "2130706433",
    "127.000.000.001",
    "0.0.0.0",
    "::1",
    "[::1",
    "[::1%25lo]",
    "[::ffff:127.0.0.1]",
    "[::2]",
    "192.168.1.5:7860",
    "",
)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> object:
    """The whole server, page included."""
    return create_app(Engine(Paths(tmp_path_factory.mktemp("hosts")).prepare()))


@pytest.fixture(scope="module")
def client(app: object) -> TestClient:
    return TestClient(app)


@pytest.fixture(scope="module")
def port(app: object) -> Iterator[int]:
    """The same server at a real port, for what a client would not send."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.05)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join()


@pytest.mark.parametrize("host", OURS)
def test_this_machines_names_are_answered(client: TestClient, host: str) -> None:
    for path in ("/", "/studio/v1/jobs", "/gradio_api/info"):
        assert client.get(path, headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", FOREIGN)
def test_another_host_is_refused_by_every_part_of_the_server(client: TestClient, host: str) -> None:
    for method, path in (("GET", "/"), ("HEAD", "/docs"), ("POST", "/gradio_api/queue/join"), ("PUT", "/studio/v1/datasets/x/caption"), ("DELETE", "/sdapi/v1/options"), ("OPTIONS", "/config")):
        assert client.request(method, path, headers={"Host": host}).status_code == 403, (method, path)
    assert client.get("/studio/v1/jobs", headers={"X-Forwarded-Host": host}).status_code == 403
    with pytest.raises(WebSocketDisconnect) as closed, client.websocket_connect("/gradio_api/queue/join", headers={"Host": host}):
        pass
    assert closed.value.code == 1008


def test_no_host_and_two_hosts_are_refused(port: int) -> None:
    for hosts in ((), ("localhost", "evil.example"), ("localhost", "localhost")):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.putrequest("GET", "/studio/v1/jobs", skip_host=True)
        for host in hosts:
            connection.putheader("Host", host)
        connection.endheaders()
        assert connection.getresponse().status in (400, 403)
        connection.close()


def test_a_refusal_says_what_to_do(client: TestClient) -> None:
    told = client.get("/", headers={"Host": "studio.example.org:8080", "Accept": "text/html"})
    assert (told.headers["content-type"].startswith("text/plain"), "--allowed-host studio.example.org" in told.text) == (True, True)


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:3000", "http://127.0.0.1:1", "http://127.0.0.1.evil.example", "file://", "http://127.0.0.1@evil.example"])
def test_another_origin_may_neither_write_nor_read(client: TestClient, origin: str) -> None:
    for method, path in (
        ("POST", "/studio/v1/jobs/generate"),
        ("GET", "/studio/v1/jobs"),
        ("OPTIONS", "/config"),
        ("POST", "/gradio_api/queue/join"),
        ("POST", "/login"),
        ("GET", "/gradio_api/queue/data"),
    ):
        refused = client.request(method, path, headers={"Origin": origin})
        assert refused.status_code == 403, (method, path)
        assert "access-control-allow-origin" not in refused.headers
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/gradio_api/queue/join", headers={"Origin": origin}):
        pass


def test_the_pages_own_origin_may(client: TestClient) -> None:
    assert client.get("/studio/v1/jobs", headers={"Origin": "http://127.0.0.1"}).status_code == 200
    assert client.get("/studio/v1/jobs", headers={"Origin": "http://localhost:7860", "Host": "localhost:7860"}).status_code == 200


def test_another_site_may_link_here_but_load_nothing(client: TestClient) -> None:
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert client.get("/", headers=link).status_code == 200
    for mode, kind in (("no-cors", "image"), ("navigate", "iframe"), ("no-cors", "script")):
        assert client.get("/static/img/logo.svg", headers={**link, "Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": kind}).status_code == 403


def test_listening_admits_addresses_and_the_names_given() -> None:
    hosts = allowed_hosts("0.0.0.0", ["studio.example.org:8080, .tunnel.example", "[fd00::5]"])
    for host in (*OURS, "192.168.1.5:7860", "[fe80::1]:7860", "studio.example.org", "STUDIO.example.org:8080", "a.tunnel.example", "[fd00::5]"):
        assert hosts.admit(host), host
    for host in ("evil.example", "tunnel.example", "eviltunnel.example", "192.168.1.5.evil.example", "x.studio.example.org"):
        assert not hosts.admit(host), host
    assert allowed_hosts("localhost") == Hosts()
    assert allowed_hosts("studio.lan").admit("studio.lan:7860")
    for wrong in ("http://x", "a b", "*", "a/b"):
        with pytest.raises(InputError, match="is not a host name"):
            allowed_hosts("127.0.0.1", [wrong])


def test_a_named_host_reaches_the_server(tmp_path_factory: pytest.TempPathFactory) -> None:
    engine = Engine(Paths(tmp_path_factory.mktemp("named")).prepare())
    named = TestClient(bare_app(engine, Access(hosts=allowed_hosts("127.0.0.1", ["studio.example.org"]))), base_url="https://studio.example.org")
    assert named.get("/studio/v1/jobs", headers={"Origin": "https://studio.example.org"}).status_code == 200


def test_every_answer_carries_the_common_headers(client: TestClient) -> None:
    for path in ("/", "/docs", "/studio/v1/jobs", "/nowhere", "/theme.css", "/gradio_api/info"):
        headers = client.get(path).headers
        assert (headers["x-content-type-options"], headers["referrer-policy"], headers["cross-origin-resource-policy"]) == ("nosniff", "same-origin", "same-origin"), path
        assert "frame-ancestors 'self'" in headers["content-security-policy"], path
    for path in ("/", "/docs"):
        policy = client.get(path).headers["content-security-policy"]
        assert ("script-src 'self' 'sha256-" in policy, "'unsafe-inline'" in policy.split(";")[0]) == (True, False), path
