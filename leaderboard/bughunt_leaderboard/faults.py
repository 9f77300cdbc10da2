"""When the host's own machine fails: one clear answer, nothing half accepted, and on again by itself."""

import logging

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import DBAPIError, TimeoutError  # noqa: A004 - of waiting for a connection
from starlette.exceptions import HTTPException

from bughunt_leaderboard.refusals import MalformedError

LOG = logging.getLogger("bughunt.server")
AGAIN = "nothing was accepted: send it again in a minute, and tell the host if it stays so"


def add_faults(app: FastAPI) -> None:
    @app.exception_handler(HTTPException)
    async def refused(_request: Request, error: HTTPException) -> JSONResponse:
        """What the framework refuses, in the form of all refusals."""
        body = {"code": "refused", "message": str(error.detail), "remedy": "/openapi.json lists the paths"}
        return JSONResponse(body, error.status_code, error.headers)

    @app.exception_handler(RequestValidationError)
    async def malformed(_request: Request, error: RequestValidationError) -> JSONResponse:
        """422 that names the first field that does not fit, and repeats nothing of what was sent."""
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if isinstance(part, int) or part.isprintable())
        refusal = MalformedError(f"{where[:80]}: {first['msg']}", "/openapi.json says what belongs there")
        return JSONResponse(refusal.body(), refusal.status)

    @app.exception_handler(UnicodeEncodeError)
    async def half(_request: Request, _error: UnicodeEncodeError) -> JSONResponse:
        refusal = MalformedError("half a character was sent", "send text in UTF-8")
        return JSONResponse(refusal.body(), refusal.status)

    @app.exception_handler(DBAPIError)
    @app.exception_handler(TimeoutError)
    @app.exception_handler(OSError)
    async def failed(_request: Request, error: Exception) -> JSONResponse:
        """503 for a database that is away or full, and for a disk that is."""
        LOG.error("%s: %s", type(error).__name__, reason(error))
        body = {"code": "host", "message": f"the host's machine fails: {reason(error)}", "remedy": AGAIN}
        return JSONResponse(body, 503, {"retry-after": "5"})


def reason(error: Exception) -> str:
    """What went wrong, in words that show no address and no file."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    if "full" in str(cause) or getattr(cause, "errno", None) == 28:
        return "its disk is full"
    return "its disk cannot be used" if isinstance(cause, OSError) else "its database does not answer"
