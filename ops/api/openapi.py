"""The OpenAPI document: what the guard and the errors add to every operation, told as it really comes."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from perennial.ops.api.conditions import IF_MATCH
from perennial.ops.api.errors import PROBLEM
from perennial.ops.api.origin import REQUEST_HEADER
from perennial.ops.api.paging import AFTER
from perennial.ops.api.repeats import KEY_HEADER, KEY_PATTERN, REPLAYED_HEADER, takes_key

__all__ = ["document"]

_JSON = "application/json"
_READS = frozenset({"get", "head"})
_MEANING = {
    400: "The request cannot be read",
    401: "No known token",
    403: "The token's role is too low, or a page from elsewhere asks",
    404: "There is no such thing",
    408: "The body came too slowly",
    409: "It does not fit the present state",
    412: "What was expected is no longer so",
    413: "The body is too large",
    415: "Neither a JSON content type nor the header of a write",
    421: "Not a name of this server",
    422: "A value is wrong; rows that are wrong are named",
    500: "A fault of the server's own; its log tells which",
    503: "A dependency cannot be reached, or too much is asked at once; retry",
}
_KEY = {
    "name": KEY_HEADER,
    "in": "header",
    "required": False,
    "schema": {"type": "string", "pattern": KEY_PATTERN},
    "description": f"the same request under the same key is carried out once; `{REPLAYED_HEADER}` tells of a repeat",
}
_PROBLEM = {
    "type": "object",
    "title": "Problem",
    "description": "An error (RFC 9457)",
    "required": ["type", "title", "status", "error", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "error": {"type": "string", "description": "the kind of error"},
        "detail": {"type": "string"},
        "rows": {
            "type": "array",
            "description": "the rows that caused it",
            "items": {
                "type": "object",
                "required": ["row", "cause"],
                "properties": {"row": {"type": "integer"}, "cause": {"type": "string"}},
            },
        },
    },
}


def document(api: FastAPI, *, asks_tokens: bool) -> None:
    """Have the application describe itself with every status that its callers meet, and with tokens where it asks."""

    def openapi() -> dict[str, Any]:
        if api.openapi_schema is None:
            api.openapi_schema = _described(api, asks_tokens)
        return api.openapi_schema

    api.openapi = openapi  # type: ignore[method-assign]


def _described(api: FastAPI, asks_tokens: bool) -> dict[str, Any]:
    described = get_openapi(title=api.title, version=api.version, routes=api.routes)
    schemas = described.setdefault("components", {}).setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    schemas["Problem"] = _PROBLEM
    if not asks_tokens:
        described["components"].pop("securitySchemes", None)
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            if not asks_tokens:
                operation.pop("security", None)
            _describe(operation, method, path)
    return described


def _describe(operation: dict[str, Any], method: str, path: str) -> None:
    responses = operation["responses"]
    if takes_key(method, path):
        operation.setdefault("parameters", []).append(_KEY)
    responses.pop("422", None)
    for name, description in _headers(operation, path).items():
        headers = responses[min(responses)].setdefault("headers", {})
        headers[name] = {"description": description, "schema": {"type": "string"}}
    for status in _statuses(operation, method, path):
        content = {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}}
        if status == 503 and path.startswith("/healthz"):
            content |= responses["200"]["content"]  # what is not well is told as what is
        responses.setdefault(str(status), {"description": _MEANING[status], "content": content})
    if method not in _READS and _JSON not in operation.get("requestBody", {}).get("content", {}):
        header = {"name": REQUEST_HEADER, "in": "header", "required": True}
        details = {"schema": {"type": "string", "enum": ["1"]}, "description": "no page sends it across sites unasked"}
        operation.setdefault("parameters", []).append({**header, **details})


def _headers(operation: dict[str, Any], path: str) -> dict[str, str]:
    """What a good answer's headers tell."""
    asked = {parameter["name"] for parameter in operation.get("parameters", ())}
    told = {"Link": 'the next page, rel="next"; none where this one is the last'} if AFTER in asked else {}
    if IF_MATCH in asked or path.endswith("/route"):
        told["ETag"] = "of the route, for the If-Match of the next change"
    return told


def _statuses(operation: dict[str, Any], method: str, path: str) -> set[int]:
    statuses = {400, 403, 408, 413, 421, 500, 503}
    if operation.get("security"):
        statuses |= {401}
    if "{" in path or "requestBody" in operation:
        statuses |= {404}
    if operation.get("parameters") or "requestBody" in operation:
        statuses |= {422}
    if any(parameter["name"] in {IF_MATCH, "cycle"} for parameter in operation.get("parameters", ())):
        statuses |= {412}
    if method not in _READS:
        statuses |= {409, 415}
    return statuses
