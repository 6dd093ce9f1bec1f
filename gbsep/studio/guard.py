"""What may ask: every request passes here before anything is looked up.

Conventions of safety: the server listens on 127.0.0.1 alone. Every request must carry the token that was made when it
started (in the address as `?token=`, or in the header X-Gbsep-Token), name this host and port in `Host` (else a foreign
name that resolves to this machine could reach it: DNS rebinding), and, where a browser says who asks (`Origin`,
`Sec-Fetch-Site`), come from the page itself. There are no cookies, so no other page can borrow them.
"""

from __future__ import annotations

import hmac
from urllib.parse import parse_qs

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class Guard:
    """Lets through what comes from the page of this server, and refuses all else; every answer gets HEADERS."""

    def __init__(self, app: ASGIApp, host: str, token: str):
        self.app, self.host, self.token = app, host, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                told = {name for name, _ in message["headers"]}
                more = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
                message["headers"] = [*message["headers"], *(pair for pair in more if pair[0] not in told)]
            await send(message)

        if scope["type"] != "http":
            return
        refused = self._refused(scope)
        await (refused or self.app)(scope, receive, sending)

    def _refused(self, scope: Scope) -> PlainTextResponse | None:
        headers: dict[str, list[str]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
        try:
            query = parse_qs(scope["query_string"].decode("latin-1"), max_num_fields=30)
        except ValueError:
            return _no(400, "this is no address")
        tokens = [*query.get("token", []), *headers.get("x-gbsep-token", [])]
        if headers.get("host") != [self.host]:
            return _no(421, "this address is not served here")
        if headers.get("origin") not in (None, [f"http://{self.host}"]) or headers.get("sec-fetch-site") not in (
            None,
            ["none"],
            ["same-origin"],
        ):
            return _no(403, "other pages may not ask")
        if not any(hmac.compare_digest(token.encode(), self.token.encode()) for token in tokens):
            return _no(403, "the token is missing or wrong: open the address that gbsep printed")
        return None


def _no(status: int, reason: str) -> PlainTextResponse:
    return PlainTextResponse(f"{reason}\n", status, {"Connection": "close"})
