"""The login page: one form without scripts, in the browser's language. Nothing of the studio's content stands in it."""

from html import escape

from starlette.datastructures import Headers
from starlette.responses import HTMLResponse
from starlette.types import Scope

WORDS = {
    "en": {
        "name": "User name",
        "password": "Password",
        "token": "Token",
        "hint": "The token is in the address that the studio printed when it started.",
        "enter": "Log in",
        "wrong": "That is not right. Try again.",
        "wait": "Too many wrong attempts from this address. Try again in {wait} s.",
        "inside": "You are logged in.",
        "open": "Open the studio",
        "leave": "Log out",
    },
    "zh": {
        "name": "用户名",
        "password": "密码",
        "token": "令牌（token）",
        "hint": "令牌在启动时打印出的地址里（token= 后面的部分）。",
        "enter": "登录",
        "wrong": "不正确，请重试。",
        "wait": "该地址的错误次数过多，请 {wait} 秒后再试。",
        "inside": "你已登录。",
        "open": "打开页面",
        "leave": "退出登录",
    },
}
HEADERS = {"Cache-Control": "no-store", "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"}
PAGE = """<!doctype html>
<html lang="{lang}"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>SD Training Studio</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 16px/1.5 system-ui, sans-serif; display: grid; place-items: center; min-height: 90vh; margin: 0; background: light-dark(#f8fafc, #0b0f19); color: light-dark(#1f2937, #f3f4f6); }}
main {{ width: min(20rem, 90vw); }}
label {{ display: block; margin: .75rem 0; }}
input {{ display: block; width: 100%; box-sizing: border-box; padding: .5rem; font: inherit; border: 1px solid #94a3b8; border-radius: 6px; }}
button {{ font: inherit; padding: .5rem 1rem; border: 0; border-radius: 6px; background: #0d9488; color: #fff; cursor: pointer; }}
</style></head><body><main><h1>SD Training Studio</h1>{inside}</main></body></html>
"""


def login_page(scope: Scope, status: int, asks: str, wait: int = 0, wrong: bool = False, logged_in: bool = False) -> HTMLResponse:
    """The page that asks for an `account` or a `token`; its addresses are relative, so that it works under a path of a proxy."""
    lang = "zh" if Headers(scope=scope).get("accept-language", "").strip().lower().startswith("zh") else "en"
    words, up = WORDS[lang], "../" * max(0, scope["path"].count("/") - 1)
    if logged_in:
        inside = f'<p>{words["inside"]} <a href="{up or "./"}">{words["open"]}</a></p><form method="post" action="{up}logout"><button>{words["leave"]}</button></form>'
    else:
        said = words["wait"].format(wait=wait) if wait else words["wrong"] if wrong else ""
        inside = f'<form method="post" action="{up}login">{_fields(asks, words)}<p role="alert">{escape(said)}</p><button>{words["enter"]}</button></form>'
    return HTMLResponse(PAGE.format(lang=lang, inside=inside), status, {**HEADERS, **({"Retry-After": str(wait)} if wait else {})})


def _fields(asks: str, words: dict[str, str]) -> str:
    """The fields of the form."""
    if asks == "token":
        return f'<label>{words["token"]}<input name="password" type="password" autocomplete="off" required autofocus></label><p>{words["hint"]}</p>'
    name = f'<label>{words["name"]}<input name="username" autocomplete="username" required autofocus></label>'
    return name + f'<label>{words["password"]}<input name="password" type="password" autocomplete="current-password" required></label>'
