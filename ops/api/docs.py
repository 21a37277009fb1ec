"""The page `/docs`, for reading and trying the API: all of it comes from an installed package, nothing from outside."""

from functools import lru_cache
from importlib.resources import files

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, Response

__all__ = ["add_docs"]

_KINDS = {
    "favicon.png": "image/png",
    "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
    "swagger-ui.css": "text/css; charset=utf-8",
}
_START = "start.js"
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Perennial: control API</title>
<link rel="icon" href="docs/favicon.png"><link rel="stylesheet" href="docs/swagger-ui.css"></head>
<body><div id="api"></div><script src="docs/swagger-ui-bundle.js"></script><script src="docs/start.js"></script></body>
</html>
"""
_STARTS = """"use strict";
SwaggerUIBundle({
  url: "openapi.json", dom_id: "#api", deepLinking: true, validatorUrl: null, layout: "BaseLayout",
});
"""


def add_docs(api: FastAPI) -> None:
    """Add the page and its files; everybody may read them, as they may read `/openapi.json`."""

    @api.get("/docs", include_in_schema=False)
    def docs() -> Response:
        return HTMLResponse(_PAGE, headers={"Content-Security-Policy": _POLICY})

    @api.get("/docs/{name}", include_in_schema=False)
    def asset(name: str) -> Response:
        if name == _START:
            return Response(_STARTS, media_type=_KINDS["swagger-ui-bundle.js"])
        if name not in _KINDS:
            raise HTTPException(404, "there is no such file; the page is /docs")
        return Response(_file(name), media_type=_KINDS[name], headers={"Cache-Control": "max-age=3600"})


@lru_cache(maxsize=len(_KINDS))
def _file(name: str) -> bytes:
    return files("fastapi_offline").joinpath("static", name).read_bytes()
