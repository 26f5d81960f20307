"""Earlier import paths, most of version 0.1, forwarded to where the modules are now.

Users' own spaces, models and recipes import from the package. An old path goes on working, with one
DeprecationWarning that names the new path.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pkgutil import resolve_name
from types import ModuleType
from typing import Any

MOVED = {  # package -> {earlier path in `tuner`: name of the module in the package}
    "tuner": {"catalogue": "registry", "parts": "registry", "runs": "paths"},
    "tuner.artifacts": {"gallery": "optuna_store", "keeper": "attempts", "parcels": "snapshots",
                        "sender": "upload_queue", "store": "store"},
    "tuner.cli": {"cli.explain": "export", "cli.results": "export", "cli.search": "run", "live": "live",
                  "screen": "screen", "sparks": "sparklines"},
    "tuner.data": {"data.get": "fetch", "data.hands": "augment_pool", "data.places": "locate",
                   "data.shelf": "provider", "download": "download", "energy": "instances",
                   "instances": "instances"},
    "tuner.data.synthetic": {"data.badges": "badges", "data.cells": "cells", "data.scenes": "scenes",
                             "data.shapes": "shapes"},
    "tuner.export": {"annotations": "coco", "best": "best_trial", "bundle": "bundle", "evaluate": "evaluate",
                     "explain": "gradcam", "export.best": "best_trial", "layers": "layers", "panels": "explain",
                     "predict": "predict"},
    "tuner.fleet": {"crew": "placement", "gpus": "gpus", "orders": "config", "quarantine": "gpus",
                    "ray_seats": "ray_cluster", "seats": "local", "sharing": "placement"},
    "tuner.plots": {"report.charts": "charts", "report.curves": "curves", "report.drawn": "render_png",
                    "report.examples": "examples", "report.heat": "heatmaps",
                    "report.interactive": "render_plotly", "report.overlays": "overlays",
                    "report.quality": "quality", "report.sheet": "contact_sheet", "report.strip": "examples",
                    "report.things": "overlays"},
    "tuner.report": {"comparison": "table_comparison", "report.again": "advice", "report.chapters": "sections",
                     "report.courses": "group_curves", "report.files": "trial_files",
                     "report.later": "on_demand", "report.markup": "html", "report.output": "html",
                     "report.pictures": "trial_files", "report.story": "study_data", "report.versus": "compare",
                     "shown": "dashboard"},
    "tuner.search": {"clerk": "sync", "desk": "session", "launch": "run", "longer": "extend",
                     "notes": "trial_attrs", "objective": "objective", "pictures": "trial_pictures",
                     "sampling": "sampling", "starts": "warm_start", "takeover": "warm_start",
                     "worker": "worker"},
    "tuner.space": {"check": "check", "published": "published", "rehearsal": "rehearsal"},
    "tuner.study": {"claims": "claims", "control": "control", "database": "database", "failures": "failures",
                    "hours": "budget", "listed": "trial_list", "overview": "queries", "pages": "pending",
                    "reading": "trial_reader", "report.tables": "format", "setup": "storage",
                    "storage": "storage", "tables": "tables", "tally": "stats", "watch": "heartbeat",
                    "words": "format"},
    "tuner.train": {"chosen": "details", "details": "details", "instance_metrics": "instance_metrics",
                    "losses": "losses", "metrics": "metrics", "optims": "optimizers", "train.scoring": "totals",
                    "train.shown": "predictions"},
    "tuner.web": {"dashboard": "server", "web.guard": "security", "web.login": "auth", "web.shell": "base_path",
                  "web.studies": "study_api"},
}  # fmt: skip
MOVED_MODULES = {
    f"tuner.{old}": f"{package}.{new}" for package, modules in MOVED.items() for old, new in modules.items()
}

# module -> {earlier name: name now, path below the module, or path from `tuner`}; an old module path gives all
RENAMED = {
    "tuner.data.augment": {"augmenter": "make_augment"},
    "tuner.data.cache": {"Cached": "CachedDataset", "cached": "load_cached"},
    "tuner.data.folder": {"pair_up": "pair_files", "read_pair": "read_with_mask",
                          "read_labelled": "read_with_labels", "read_numbered": "read_with_instances",
                          "read_classed": "read_with_class"},
    "tuner.data.images": {"shrink": "resize_image"},
    "tuner.data.instances": {"MOST": "MAX_INSTANCES", "energy_of": "compute_energy", "in_order": "renumber",
                             "ious": "iou_matrix", "matches": "match_instances", "numbers_in": "instance_ids",
                             "overlaps": "overlap_matrix", "pieces": "connected_pieces",
                             "with_energy": "make_energy_targets"},
    "tuner.data.locate": {"complete": "require_files"},
    "tuner.data.provider": {"Shelf": "DataProvider"},
    "tuner.data.source": {"Numbers": "InstanceMap", "hold_out": "tuner.data.split.hold_out",
                          "hold_out_per_class": "tuner.data.split.hold_out_per_class",
                          "hold_out_of_each": "tuner.data.split.hold_out_per_class"},
    "tuner.export.best_trial": {"best": "find_best", "Best": "BestTrial"},
    "tuner.export.bundle": {"export": "export_bundle", "load": "load_model", "verify": "verify_bundle"},
    "tuner.fleet": {"Fleet": "supervisor.Fleet"},
    "tuner.models.blocks": {"careful": "run_checked", "halving": "decoder_widths", "start": "init_weights",
                            "take_channels": "set_in_channels"},
    "tuner.models.pretrained": {"fill": "fill_encoder", "hugging_face": "hf_source",
                                "imagenet": "imagenet_tensors"},
    "tuner.registry": {"locate": "find_builder", "problems": "part_problems", "searchable": "searchable_args",
                       "entries": "list_parts"},
    "tuner.space": {"Space": "space.Space", "Draws": "space.DrawnRecipes", "load_space": "space.load_space",
                    "known_spaces": "space.known_spaces", "find_space": "space.find_space",
                    "draw": "space.draw_recipes", "describe": "space.describe_parameter"},
    "tuner.space.published": {"Table": "PublishedTable", "Row": "PublishedRow"},
    "tuner.space.rehearsal": {"reduced": "reduce_recipe"},
    "tuner.study": {"Joined": "study.JoinedStudy", "join": "study.join_study", "rejoin": "study.rejoin_study"},
    "tuner.study.database": {"behind": "unwrap", "parse": "parse_url", "passes": "is_transient",
                             "reach": "connect", "shown": "hide_password", "told": "convert_errors"},
    "tuner.study.storage": {"HoldingStorage": "StudyStorage"},
    "tuner.train.details": {"read": "read_details", "write": "write_details"},
    "tuner.train.losses": {"least": "check_not_negative", "must_suit": "check_task", "overlap": "overlap_loss"},
    "tuner.train.metrics": {"binary_guess": "binary_prediction", "class_guess": "class_prediction",
                            "confusion": "confusion_matrix"},
    "tuner.train.optimizers": {
        "advance": "tuner.train.schedules.step_schedule", "along": "tuner.train.schedules.lambda_schedule",
        **{name: f"tuner.train.schedules.{name}" for name in (
            "SCHEDULES", "Schedule", "none", "plateau", "exponential", "cosine", "warmup", "step_schedule",
            "lambda_schedule", "apply_schedule", "depends_on_end", "learning_rates")},
    },
}  # fmt: skip


class MovedModuleFinder(MetaPathFinder, Loader):
    """Find a module under its old name and put the new module in its place."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if fullname in MOVED_MODULES else None

    def exec_module(self, module: ModuleType) -> None:
        old, new = module.__name__, MOVED_MODULES[module.__name__]
        warnings.warn(f"{old} is deprecated: import {new} instead.", DeprecationWarning, stacklevel=2)
        sys.modules[old] = moved = import_module(new)
        for old_name, new_name in RENAMED.get(new, {}).items():
            if old_name not in vars(moved):
                setattr(moved, old_name, resolve_name(full_path(new, new_name)))


def install() -> None:
    """Forward imports of old module names. Installed behind all other finders: it is asked only when they fail."""
    if not any(isinstance(finder, MovedModuleFinder) for finder in sys.meta_path):
        sys.meta_path.append(MovedModuleFinder())


def full_path(module: str, name: str) -> str:
    """Return the path of a name that RENAMED gives for a module."""
    return name if name.startswith("tuner.") else f"{module}.{name}"


def renamed_names(module: str) -> Callable[[str], Any]:
    """Return a `__getattr__` for a module that stayed where it was, for the names of it in RENAMED."""

    def forward(name: str) -> Any:
        if name not in RENAMED[module]:
            raise AttributeError(f"module '{module}' has no attribute '{name}'")
        new = full_path(module, RENAMED[module][name])
        warnings.warn(f"{module}.{name} is deprecated: use {new}.", DeprecationWarning, stacklevel=2)
        value = resolve_name(new)
        setattr(sys.modules[module], name, value)  # the next use finds it there: one warning for each name
        return value

    return forward
