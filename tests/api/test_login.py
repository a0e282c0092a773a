"""The login, the token in the address, and what guessing costs."""

import logging

import pytest
from fastapi.testclient import TestClient

from studio.api.app import bare_app, create_app
from studio.api.auth import Access
from studio.api.guessing import FREE, LONGEST, Guesses
from studio.cli import _parser
from studio.cli.serving import _access
from studio.engine import Engine
from studio.errors import InputError
from studio.settings import Paths

BROWSER = {"Accept": "text/html,application/xhtml+xml"}
ANN, BOB = (("ann", "secret"),), (("bob", "word"),)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return Engine(Paths(tmp_path_factory.mktemp("login")).prepare())


@pytest.fixture(scope="module")
def whole(engine: Engine) -> object:
    """The server with its page and an account of the API alone."""
    return create_app(engine, Access(api=ANN))


def test_accounts_of_the_api_alone_protect_the_page_too(whole: object) -> None:
    client = TestClient(whole)
    for path in ("/", "/config", "/docs", "/openapi.json", "/gradio_api/info", "/gradio_api/startup-events", "/theme.css", "/manifest.json", "/studio/v1/pulse"):
        for headers in ({}, BROWSER):
            refused = client.get(path, headers=headers)
            assert (refused.status_code, "tiny" in refused.text, "data-words" in refused.text) == (401, False, False), path
    assert client.get("/internal/ping").status_code == 200
    assert client.get("/", auth=("ann", "secret")).status_code == 200


def test_the_login_page_says_nothing_of_the_studio_and_lets_in(whole: object) -> None:
    client = TestClient(whole)
    shown = client.get("/", headers=BROWSER)
    assert (shown.status_code, len(shown.text) < 4000, "<script" in shown.text) == (401, True, False)
    assert "script" not in shown.headers["content-security-policy"]
    assert "密码" in client.get("/", headers={**BROWSER, "Accept-Language": "zh-CN,en;q=0.5"}).text
    wrong = client.post("/login", data={"username": "ann", "password": "<b>"}, headers=BROWSER)
    assert (wrong.status_code, "<b>" in wrong.text, "not right" in wrong.text) == (401, False, True)
    right = client.post("/login", data={"username": "ann", "password": "secret"}, headers=BROWSER, follow_redirects=False)
    cookie = right.headers["set-cookie"].lower()
    assert (right.status_code, right.headers["location"]) == (303, "./")
    assert ("httponly" in cookie, "samesite=lax" in cookie, "secret" in cookie) == (True, True, False)
    assert "gradio_config" in client.get("/", headers=BROWSER).text
    assert client.get("/sdapi/v1/samplers").status_code == 200
    assert "You are logged in" in client.get("/login", headers=BROWSER).text
    assert client.post("/logout", follow_redirects=False).status_code == 303
    assert client.get("/config").status_code == 401


def test_the_cookie_goes_over_https_alone_where_the_page_does(engine: Engine) -> None:
    client = TestClient(bare_app(engine, Access(page=ANN)), base_url="https://127.0.0.1")
    behind = TestClient(bare_app(engine, Access(page=ANN)), headers={"X-Forwarded-Proto": "https"})
    for each in (client, behind):
        assert "; secure" in each.post("/login", data={"username": "ann", "password": "secret"}).headers["set-cookie"].lower()


def test_page_and_api_with_accounts_of_their_own(engine: Engine) -> None:
    app = bare_app(engine, Access(api=ANN, page=BOB))
    client = TestClient(app)
    assert client.get("/sdapi/v1/samplers", auth=("bob", "word")).status_code == 401
    assert client.get("/sdapi/v1/samplers", auth=("ann", "secret")).status_code == 200
    assert client.post("/login", data={"username": "ann", "password": "secret"}).status_code == 401
    assert client.post("/login", data={"username": "bob", "password": "word"}).status_code == 200
    assert client.get("/studio/v1/jobs").status_code == 200
    assert client.get("/sdapi/v1/samplers").status_code == 401


def test_the_token_in_the_address_becomes_a_cookie(engine: Engine) -> None:
    app = bare_app(engine, Access(token="a-token"))
    client = TestClient(app)
    for path in ("/docs", "/docs?token=", "/docs?token=wrong", "/docs?token=a-toke"):
        assert client.get(path).status_code == 401
    moved = client.get("/docs?token=a-token&x=1", follow_redirects=False)
    assert (moved.status_code, moved.headers["location"], moved.headers["cache-control"]) == (303, "./docs?x=1", "no-store")
    assert client.get("/docs").status_code == 200
    assert "Token" in TestClient(app).get("/", headers=BROWSER).text
    fresh = TestClient(app)
    assert fresh.get("/studio/v1/jobs", headers={"Authorization": "Bearer a-token"}).status_code == 200
    assert fresh.get("/sdapi/v1/samplers", auth=("anybody", "a-token")).status_code == 200
    assert fresh.get("/studio/v1/jobs").status_code == 401
    assert fresh.get("/studio/v1/jobs", headers={"Cookie": "studio-session-80=a-token"}).status_code == 401
    assert fresh.post("/login", data={"password": "a-token"}).status_code == 200


def test_guessing_makes_an_address_wait(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    app = bare_app(engine, Access(page=ANN))
    client, other = TestClient(app), TestClient(app, client=("10.0.0.9", 5))
    inside = TestClient(app)
    inside.post("/login", data={"username": "ann", "password": "secret"})
    with caplog.at_level(logging.WARNING, "studio.access"):
        told = [client.get("/studio/v1/jobs", auth=("ann", f"pass-{n}")).status_code for n in range(FREE + 3)]
    assert (told[:FREE], told[-1]) == ([401] * FREE, 429)
    assert any("testclient" in record.getMessage() for record in caplog.records) and "pass-" not in caplog.text
    waiting = client.post("/login", data={"username": "ann", "password": "secret"})
    assert (waiting.status_code, int(waiting.headers["retry-after"]) > 0) == (429, True)
    assert "Too many" in client.post("/login", data={"username": "ann", "password": "x"}, headers=BROWSER).text
    assert client.get("/studio/v1/jobs").status_code == 401
    assert inside.get("/studio/v1/jobs").status_code == 200
    assert other.get("/studio/v1/jobs", auth=("ann", "secret")).status_code == 200


def test_the_wait_grows_and_one_machine_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("studio.api.guessing.time.monotonic", lambda: now)
    guesses, waits = Guesses(), []
    for n in range(20):
        guesses.wrong(f"2001:db8::{n + 1:x}")
        waits.append(guesses.wait("2001:db8::ffff"))
        now += waits[-1]
    assert waits[FREE - 1 : FREE + 3] == [2, 3, 5, 9]
    assert max(waits) == LONGEST + 1
    assert (guesses.wait("2001:db9::1"), guesses.wait("10.0.0.1")) == (0, 0)
    for n in range(10_000):
        guesses.wrong(f"10.{n // 65536}.{n // 256 % 256}.{n % 256}")
    assert len(guesses._known) <= 4096


def started(*words: str) -> Access:
    """Who may come in, as the command line says it."""
    arguments = _parser().parse_args(["serve", *words])
    return _access(arguments, arguments.server_name or ("0.0.0.0" if arguments.listen else "127.0.0.1"))


def test_listening_without_an_account_makes_a_token() -> None:
    assert len(started("--listen").token) >= 32
    assert started("--listen").token != started("--listen").token
    assert started("--server-name", "192.168.1.5").token
    assert started("--allowed-host", "studio.example.org").token
    for words in ((), ("--listen", "--no-auth"), ("--server-name", "localhost"), ("--listen", "--gradio-auth", "ann:secret"), ("--listen", "--api-auth", "ann:secret")):
        assert started(*words).token == ""
    assert started("--listen", "--api-auth", "ann:secret").guarded
    with pytest.raises(InputError, match="--no-auth"):
        started("--listen", "--no-auth", "--gradio-auth", "ann:secret")
