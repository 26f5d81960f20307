"""The requests that the dashboard answers, and what their bodies hold."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from tuner.web.wsgi import BAD_REQUEST, RequestError

MOST_BYTES, MOST_FILE_BYTES = 1 << 20, 1 << 27  # of a body, and of one with a file
LONGEST_NAME = 512  # characters of a name in Optuna's tables
LARGEST_WHOLE, LARGEST = 2**31 - 1, 1e308  # that the columns of all databases hold
LONGEST_LIST = 100
PARTS = {  # of the paths below
    "STUDY": "(?P<study>[0-9]+)",
    "TRIAL": "(?P<trial>[0-9]+)",  # its id, which is not its number
    "ARTIFACT": "(?P<artifact>[0-9a-fA-F-]{1,64})",
    "HISTORY": "[0-9a-fA-F-]{1,64}",
    "PLOT": "[a-z_]{1,40}",
    "FILE": "[A-Za-z0-9_.-]{1,100}",
}


@dataclass(frozen=True)
class FieldType:
    """What a field of a body holds: in words, and as a function."""

    text: str
    accepts: Callable[[Any], bool]


def is_text(value: Any) -> bool:
    return isinstance(value, str)


def is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def is_name(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[^\x00-\x1f\x7f]{1,512}", value) is not None


def is_file_name(value: Any) -> bool:
    return value == "" or (is_name(value) and len(value) < 256)


def is_data_url(value: Any) -> bool:
    return isinstance(value, str) and re.match("data:[^,]{0,200};base64,", value) is not None


def is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST_WHOLE


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -LARGEST <= value <= LARGEST


def is_attrs(value: Any) -> bool:
    return isinstance(value, dict) and bool(value) and all(map(is_name, value))


def one_of(*words: str) -> FieldType:
    known = {word.lower() for word in words}
    return FieldType(" or ".join(words), lambda value: isinstance(value, str) and value.lower() in known)


def or_null(kind: FieldType) -> FieldType:
    return FieldType(f"{kind.text}, or null", lambda value: value is None or kind.accepts(value))


def list_of(item: FieldType) -> FieldType:
    def accepts(value: Any) -> bool:
        return isinstance(value, list) and 0 < len(value) <= LONGEST_LIST and all(map(item.accepts, value))

    return FieldType(f"a list of 1 to {LONGEST_LIST} of these: {item.text}", accepts)


TEXT, FLAG = FieldType("a text", is_text), FieldType("true or false", is_flag)
WHOLE = FieldType(f"a whole number from 0 to {LARGEST_WHOLE}", is_whole)
NUMBER = FieldType("a number", is_number)
NAME = FieldType(f"a text of 1 to {LONGEST_NAME} characters without control characters", is_name)
FILE_NAME = FieldType("a file name of at most 255 characters", is_file_name)
DATA_URL = FieldType("a data URL in base64", is_data_url)
ATTRS = FieldType("an object with at least one name", is_attrs)
NOTE, FILE = {"version": WHOLE, "body": TEXT}, {"file": DATA_URL}


@dataclass(frozen=True)
class Route:
    """A method and a path of the API, and the fields that its body needs and may have."""

    method: str
    path: str
    needed: Mapping[str, FieldType] = field(default_factory=dict)
    optional: Mapping[str, FieldType] = field(default_factory=dict)
    most: int = MOST_BYTES
    preferential: bool = False  # for studies whose trials people compare

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        return re.compile(re.sub("[A-Z]+", lambda part: PARTS[part[0]], re.escape(self.path)) + "/*")

    def pick_fields(self, body: Any) -> dict[str, Any]:
        """Return the known fields of a body; raise RequestError that names the first that is missing or wrong."""
        if not isinstance(body, dict):
            raise RequestError(BAD_REQUEST, "the body is not a JSON object")
        known = {**self.needed, **self.optional}
        for name, kind in known.items():
            if name not in body and name in self.needed:
                raise RequestError(BAD_REQUEST, f"{name} is missing; {kind.text} is needed")
            if name in body and not kind.accepts(body[name]):
                raise RequestError(BAD_REQUEST, f"{name} is not {kind.text}")
        return {name: value for name, value in body.items() if name in known}


ROUTES = (
    Route("GET", "/static/FILE"),
    Route("GET", "/favicon.ico"),
    Route("GET", "/csv/STUDY"),
    Route("GET", "/api/meta"),
    Route("GET", "/api/studies"),
    Route("POST", "/api/studies", {"study_name": NAME, "directions": list_of(one_of("minimize", "maximize"))}),
    Route("GET", "/api/studies/STUDY"),
    Route("DELETE", "/api/studies/STUDY", {}, {"remove_associated_artifacts": FLAG}),
    Route("POST", "/api/studies/STUDY/rename", {"study_name": NAME}),
    Route("PUT", "/api/studies/STUDY/note", NOTE),
    Route("PUT", "/api/studies/STUDY/TRIAL/note", NOTE),
    Route("GET", "/api/studies/STUDY/param_importances"),
    Route("GET", "/api/studies/STUDY/plot/PLOT"),
    Route(
        "POST",
        "/api/trials/TRIAL/tell",
        {"state": one_of("Complete", "Fail")},
        {"values": or_null(list_of(NUMBER))},
    ),
    Route("POST", "/api/trials/TRIAL/user-attrs", {"user_attrs": ATTRS}),
    Route("POST", "/api/artifacts/STUDY", FILE, {"filename": FILE_NAME}, MOST_FILE_BYTES),
    Route("POST", "/api/artifacts/STUDY/TRIAL", FILE, {"filename": FILE_NAME}, MOST_FILE_BYTES),
    Route("DELETE", "/api/artifacts/STUDY/ARTIFACT"),
    Route("DELETE", "/api/artifacts/STUDY/TRIAL/ARTIFACT"),
    Route(
        "POST",
        "/api/studies/STUDY/preference",
        {"mode": one_of("ChooseWorst"), "candidates": list_of(WHOLE), "clicked": WHOLE},
        preferential=True,
    ),
    Route("POST", "/api/studies/STUDY/preference/HISTORY", preferential=True),
    Route("DELETE", "/api/studies/STUDY/preference/HISTORY", preferential=True),
    Route(
        "PUT",
        "/api/studies/STUDY/preference_feedback_component",
        {"output_type": one_of("note", "artifact")},
        {"artifact_key": or_null(NAME)},
        preferential=True,
    ),
    Route("POST", "/api/studies/STUDY/TRIAL/skip", preferential=True),
    Route("POST", "/api/llm/trial_filter_query"),
    Route("POST", "/api/llm/generate_plotly_graph_query"),
    Route("POST", "/api/llm/re_generate_plotly_graph_query"),
)


def find_route(method: str, path: str) -> tuple[Route, dict[str, str]]:
    """Return the route of a request and the ids in its path; raise RequestError if there is none."""
    found = [(route, match.groupdict()) for route in ROUTES if (match := route.pattern.fullmatch(path))]
    if not found:
        raise RequestError("404 Not Found", "there is no such address")
    for route, ids in found:
        if route.method == method:
            return route, ids
    known = ", ".join(route.method for route, _ in found)
    raise RequestError("405 Method Not Allowed", f"this address takes {known} only")
