"""How requests are read and errors answered: bodies are bounded and strict, whatever is wrong is said in plain text."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from ..errors import GbsepError
from ..report.deciding import Stale
from ..schema import first_problem

MAX_BODY_BYTES = 20_000
"""Of a decision; chains and presets may be longer, see MAX_DOCUMENT_BYTES."""

MAX_DOCUMENT_BYTES = 500_000
STALE = "the songs are not those of this page any more; load the page again"

Model = TypeVar("Model", bound=BaseModel)
Handler = Callable[[Request], Awaitable[Response]]


class Refusal(Exception):
    """A request that is answered with a status and a reason."""

    def __init__(self, status: int, reason: str):
        super().__init__(reason)
        self.status, self.reason = status, reason


def refuse(status: int, reason: str) -> Response:
    """A status and a reason in plain text; the connection ends with it, for its body may not have been read."""
    return PlainTextResponse(f"{reason}\n", status, {"Connection": "close"})


def told(handler: Handler) -> Handler:
    """A handler whose errors become answers: what is wrong with a request is 400, with the songs 409."""

    @wraps(handler)
    async def answering(request: Request) -> Response:
        try:
            return await handler(request)
        except Refusal as error:
            return refuse(error.status, error.reason)
        except Stale:
            return refuse(409, STALE)
        except LookupError as error:
            return refuse(400, str(error.args[0] if error.args else error))
        except GbsepError as error:
            return refuse(409, str(error))

    return answering


async def document(request: Request, model: type[Model], limit: int = MAX_BODY_BYTES) -> Model:
    """The JSON body of a request. Raises Refusal for one that is none, too long, or not as the model says."""
    if request.headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
        raise Refusal(415, "it takes JSON")
    length = request.headers.get("content-length", "")
    if not re.fullmatch("[0-9]{1,9}", length) or int(length) > limit:
        raise Refusal(413, f"it takes at most {limit} bytes")
    content = b""
    async for piece in request.stream():
        content += piece
        if len(content) > limit:
            raise Refusal(413, f"it takes at most {limit} bytes")
    try:
        return model.model_validate(json.loads(content))
    except ValidationError as error:
        raise Refusal(400, ": ".join(first_problem(error, model))) from None
    except (ValueError, RecursionError):
        raise Refusal(400, "it takes JSON") from None


def whole_number(request: Request, name: str, low: int, high: int) -> int:
    """A number of the path or the query. Raises Refusal."""
    text: Any = request.path_params.get(name, request.query_params.get(name, ""))
    if not re.fullmatch("[0-9]{1,12}", text) or not low <= int(text) <= high:
        raise Refusal(404, f"{name} is a whole number from {low} to {high}")
    return int(text)
