"""Write api.md from docstrings and signatures: python docs/make_api.py"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from tuner.recipe import Part

HEAD = """# Python API

The names of `tuner` are the public API. Models, losses, datasets and other parts of your own can build on the
modules after it; [design.md](design.md#parts) says what a part may define. This page is written from the
docstrings by `python docs/make_api.py`.
"""
DOCUMENTED: dict[str, tuple[str, ...]] = {  # module -> names; of `tuner`, all its public names
    "tuner": (),
    "tuner.errors": ("TunerError", "PartError", "DataError", "TrialFailed", "FailureKind"),
    "tuner.registry": (
        "find_builder",
        "searchable_args",
        "build",
        "Range",
        "check_range",
        "check_choice",
        "list_parts",
        "PartInfo",
    ),
    "tuner.models.blocks": (
        "Segmenter",
        "Decoder",
        "convs",
        "decoder_widths",
        "init_weights",
        "check_widths",
        "check_dropout",
    ),
    "tuner.data.source": ("Source", "Item"),
    "tuner.data.split": ("hold_out", "hold_out_per_class"),
    "tuner.data.instances": ("Instances", "Matches", "renumber", "match_instances"),
    "tuner.export.gradcam": ("explain", "Explanation"),
}
WIDTH = 100


def page() -> str:
    """Return the text of the page."""
    return "\n".join([HEAD, *(section(name, names) for name, names in DOCUMENTED.items())])


def section(module_name: str, names: tuple[str, ...]) -> str:
    module = import_module(module_name)
    blocks = [entry(name, getattr(module, name)) for name in names or module.__all__]
    return "\n".join([f"## {module_name}\n", docstring(module), *blocks])


def entry(name: str, thing: Any) -> str:
    """Return a heading, the signature and the docstring; for a class, its documented members too."""
    parts = [f"### {name}\n", f"```python\n{declaration(name, thing)}\n```\n"]
    if text := docstring(thing):
        parts.append(text)
    values = getattr(thing, "__members__", {})
    if values:
        parts.append("".join(f"- `{key}`: {member.value}\n" for key, member in values.items()))
    return "\n".join([*parts, *members(thing)])


def declaration(name: str, thing: Any) -> str:
    if not inspect.isclass(thing):
        return wrapped("def ", name, thing)
    if issubclass(thing, Exception) or hasattr(thing, "__members__"):
        return f"class {name}({thing.__bases__[0].__name__})"
    return wrapped("class ", name, thing)


def members(thing: Any) -> Iterator[str]:
    """Yield the public methods and properties that a class defines and documents."""
    for name, found in vars(thing).items() if inspect.isclass(thing) else ():
        function = getattr(found, "fget", None) or getattr(found, "__func__", found)
        if name.startswith("_") or not inspect.isfunction(function) or not function.__doc__:
            continue
        shown = name if isinstance(found, property) else "".join(signature(name, function))
        yield f"**`{shown}`**\n\n{inspect.cleandoc(function.__doc__)}\n"


def docstring(thing: Any) -> str:
    """Return the docstring, or nothing for one that a dataclass generated."""
    text = thing.__doc__ or ""
    generated = inspect.isclass(thing) and text.startswith(f"{thing.__name__}(")
    return f"{inspect.cleandoc(text)}\n" if text and not generated else ""


def wrapped(keyword: str, name: str, thing: Any) -> str:
    """Return the signature on one line, or one parameter per line if it is long."""
    before, inside, after = signature(name, thing)
    line = f"{keyword}{before}{inside}{after}"
    if len(line) <= WIDTH:
        return line
    return f"{keyword}{before}\n" + "".join(f"    {p},\n" for p in parameters(thing)) + after


def signature(name: str, thing: Any) -> tuple[str, str, str]:
    returned = inspect.signature(thing).return_annotation
    is_shown = not inspect.isclass(thing) and returned is not inspect.Signature.empty
    return f"{name}(", ", ".join(parameters(thing)), f") -> {annotation(returned)}" if is_shown else ")"


def parameters(thing: Any) -> list[str]:
    """Return the parameters with `*` and `/` between them, the same on every Python version."""
    found = [p for p in inspect.signature(thing).parameters.values() if p.name != "self"]
    shown = [parameter(p) for p in found]
    kinds = [p.kind for p in found]
    if inspect.Parameter.KEYWORD_ONLY in kinds and inspect.Parameter.VAR_POSITIONAL not in kinds:
        shown.insert(kinds.index(inspect.Parameter.KEYWORD_ONLY), "*")
    if positional := kinds.count(inspect.Parameter.POSITIONAL_ONLY):
        shown.insert(positional, "/")
    return shown


def parameter(p: inspect.Parameter) -> str:
    stars = {p.VAR_POSITIONAL: "*", p.VAR_KEYWORD: "**"}.get(p.kind, "")
    typed = "" if p.annotation is p.empty else f": {annotation(p.annotation)}"
    return f"{stars}{p.name}{typed}" + ("" if p.default is p.empty else f" = {default(p.default)}")


def default(value: Any) -> str:
    if isinstance(value, Part):
        return f"use({value.name!r})"
    text = str(getattr(value, "__name__", repr(value)))
    return "..." if text.startswith("<") else text


def annotation(found: Any) -> str:
    return found if isinstance(found, str) else inspect.formatannotation(found)


if __name__ == "__main__":
    Path(__file__).with_name("api.md").write_text(page())
