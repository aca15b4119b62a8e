"""The page as one file whose security policy allows only its own style and script, by hash."""

import base64
import hashlib
from importlib import resources

_HERE = resources.files("headstart.webpage")


def service_page() -> tuple[bytes, str]:
    """Returns the page that asks the service that it comes from, and its security policy."""
    style, script = text_of("style.css"), text_of("service.js") + text_of("page.js")
    policy = _policy(style, script) + "; frame-ancestors 'none'"
    return _page(style, script, "").encode(), policy


def browser_page() -> bytes:
    """Returns the page that runs the classifier in the browser, with its security policy inside."""
    names = ("browser.js", "resize.js", "view.js", "page.js")
    style, script = text_of("style.css"), "".join(text_of(name) for name in names)
    more = " 'self' 'wasm-unsafe-eval'"
    policy = _policy(style, script, more) + "; worker-src 'self'"
    tag = f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
    return _page(style, script, tag).encode()


def labelling_page() -> tuple[bytes, str]:
    """Returns the page on which a person labels images, and its security policy."""
    style, script = text_of("style.css") + text_of("label.css"), text_of("label.js")
    policy = _policy(style, script) + "; frame-ancestors 'none'"
    return _page(style, script, "", "label.html").encode(), policy


def text_of(name: str) -> str:
    """Returns the text of a file of this folder."""
    return (_HERE / name).read_text(encoding="utf-8")


def _page(style: str, script: str, policy: str, name: str = "page.html") -> str:
    page = text_of(name)
    for place, value in (("POLICY", policy), ("STYLE", style), ("SCRIPT", script)):
        page = page.replace(place, value, 1)
    return page


def _policy(style: str, script: str, more_script: str = "") -> str:
    allowed = {
        "default-src": "'none'",
        "script-src": f"'{_hash(script)}'{more_script}",
        "style-src": f"'{_hash(style)}'",
        "img-src": "'self' blob: data:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "; ".join(f"{what} {where}" for what, where in allowed.items())


def _hash(content: str) -> str:
    digest = hashlib.sha256(content.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"
