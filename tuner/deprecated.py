"""Import paths of version 0.1, forwarded to where the modules are now.

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
from types import ModuleType
from typing import Any

MOVED_MODULES = {
    "tuner.annotations": "tuner.export.coco",
    "tuner.best": "tuner.export.best",
    "tuner.bundle": "tuner.export.bundle",
    "tuner.catalogue": "tuner.registry",
    "tuner.check": "tuner.space.check",
    "tuner.chosen": "tuner.train.details",
    "tuner.claims": "tuner.study.claims",
    "tuner.clerk": "tuner.search.sync",
    "tuner.cli.explain": "tuner.cli.export",
    "tuner.cli.results": "tuner.cli.export",
    "tuner.comparison": "tuner.report.table_comparison",
    "tuner.control": "tuner.study.control",
    "tuner.crew": "tuner.fleet.placement",
    "tuner.dashboard": "tuner.web.server",
    "tuner.data.badges": "tuner.data.synthetic.badges",
    "tuner.data.cells": "tuner.data.synthetic.cells",
    "tuner.data.get": "tuner.data.fetch",
    "tuner.data.hands": "tuner.data.augment_pool",
    "tuner.data.places": "tuner.data.locate",
    "tuner.data.scenes": "tuner.data.synthetic.scenes",
    "tuner.data.shapes": "tuner.data.synthetic.shapes",
    "tuner.data.shelf": "tuner.data.provider",
    "tuner.database": "tuner.study.database",
    "tuner.desk": "tuner.search.session",
    "tuner.details": "tuner.train.details",
    "tuner.download": "tuner.data.download",
    "tuner.energy": "tuner.data.instances",
    "tuner.evaluate": "tuner.export.evaluate",
    "tuner.explain": "tuner.export.gradcam",
    "tuner.failures": "tuner.study.failures",
    "tuner.gallery": "tuner.artifacts.optuna_store",
    "tuner.gpus": "tuner.fleet.gpus",
    "tuner.hours": "tuner.study.budget",
    "tuner.instance_metrics": "tuner.train.instance_metrics",
    "tuner.instances": "tuner.data.instances",
    "tuner.keeper": "tuner.artifacts.attempts",
    "tuner.launch": "tuner.search.run",
    "tuner.layers": "tuner.export.layers",
    "tuner.listed": "tuner.study.trial_list",
    "tuner.live": "tuner.cli.live",
    "tuner.longer": "tuner.search.extend",
    "tuner.losses": "tuner.train.losses",
    "tuner.metrics": "tuner.train.metrics",
    "tuner.notes": "tuner.search.trial_attrs",
    "tuner.objective": "tuner.search.objective",
    "tuner.optims": "tuner.train.optimizers",
    "tuner.orders": "tuner.fleet.config",
    "tuner.overview": "tuner.study.queries",
    "tuner.pages": "tuner.study.pending",
    "tuner.panels": "tuner.export.explain",
    "tuner.parcels": "tuner.artifacts.snapshots",
    "tuner.parts": "tuner.registry",
    "tuner.pictures": "tuner.search.trial_pictures",
    "tuner.predict": "tuner.export.predict",
    "tuner.published": "tuner.space.published",
    "tuner.quarantine": "tuner.fleet.gpus",
    "tuner.ray_seats": "tuner.fleet.ray_cluster",
    "tuner.reading": "tuner.study.trial_reader",
    "tuner.rehearsal": "tuner.space.rehearsal",
    "tuner.report.again": "tuner.report.advice",
    "tuner.report.chapters": "tuner.report.sections",
    "tuner.report.charts": "tuner.plots.charts",
    "tuner.report.courses": "tuner.report.group_curves",
    "tuner.report.curves": "tuner.plots.curves",
    "tuner.report.drawn": "tuner.plots.render_png",
    "tuner.report.examples": "tuner.plots.examples",
    "tuner.report.files": "tuner.report.trial_files",
    "tuner.report.heat": "tuner.plots.heatmaps",
    "tuner.report.interactive": "tuner.plots.render_plotly",
    "tuner.report.later": "tuner.report.on_demand",
    "tuner.report.markup": "tuner.report.html",
    "tuner.report.output": "tuner.report.html",
    "tuner.report.overlays": "tuner.plots.overlays",
    "tuner.report.pictures": "tuner.report.trial_files",
    "tuner.report.quality": "tuner.plots.quality",
    "tuner.report.sheet": "tuner.plots.contact_sheet",
    "tuner.report.story": "tuner.report.study_data",
    "tuner.report.strip": "tuner.plots.examples",
    "tuner.report.tables": "tuner.study.format",
    "tuner.report.things": "tuner.plots.overlays",
    "tuner.report.versus": "tuner.report.compare",
    "tuner.runs": "tuner.paths",
    "tuner.sampling": "tuner.search.sampling",
    "tuner.screen": "tuner.cli.screen",
    "tuner.seats": "tuner.fleet.local",
    "tuner.sender": "tuner.artifacts.uploader",
    "tuner.setup": "tuner.study.storage",
    "tuner.sharing": "tuner.fleet.placement",
    "tuner.shown": "tuner.report.dashboard",
    "tuner.sparks": "tuner.cli.sparklines",
    "tuner.starts": "tuner.search.warm_start",
    "tuner.storage": "tuner.study.storage",
    "tuner.store": "tuner.artifacts.store",
    "tuner.tables": "tuner.study.tables",
    "tuner.takeover": "tuner.search.warm_start",
    "tuner.tally": "tuner.study.stats",
    "tuner.train.scoring": "tuner.train.totals",
    "tuner.train.shown": "tuner.train.answers",
    "tuner.watch": "tuner.study.heartbeat",
    "tuner.web.guard": "tuner.web.security",
    "tuner.web.login": "tuner.web.auth",
    "tuner.web.shell": "tuner.web.base_path",
    "tuner.web.studies": "tuner.web.study_api",
    "tuner.words": "tuner.study.format",
    "tuner.worker": "tuner.search.worker",
}

RENAMED = {  # module -> {name in version 0.1: name now}; an old module path gives both
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
    "tuner.data.source": {"Numbers": "InstanceMap", "hold_out_of_each": "hold_out_per_class"},
    "tuner.export.best": {"best": "find_best", "Best": "BestTrial"},
    "tuner.export.bundle": {"export": "export_bundle", "load": "load_model", "verify": "verify_bundle"},
    "tuner.models.blocks": {"careful": "run_checked", "halving": "decoder_widths", "start": "init_weights",
                            "take_channels": "set_in_channels"},
    "tuner.models.pretrained": {"fill": "fill_encoder", "hugging_face": "hf_source",
                                "imagenet": "imagenet_tensors"},
    "tuner.registry": {"locate": "find_builder", "problems": "part_problems", "searchable": "searchable_args",
                       "entries": "list_parts"},
    "tuner.space.published": {"Table": "PublishedTable", "Row": "PublishedRow"},
    "tuner.space.rehearsal": {"reduced": "reduce_recipe"},
    "tuner.study.database": {"behind": "unwrap", "parse": "parse_url", "passes": "is_transient",
                             "reach": "connect", "shown": "hide_password", "told": "convert_errors"},
    "tuner.study.storage": {"HoldingStorage": "StudyStorage"},
    "tuner.train.details": {"read": "read_details", "write": "write_details"},
    "tuner.train.losses": {"least": "check_not_negative", "must_suit": "check_task", "overlap": "overlap_loss"},
    "tuner.train.metrics": {"binary_guess": "binary_prediction", "class_guess": "class_prediction",
                            "confusion": "confusion_matrix"},
    "tuner.train.optimizers": {"advance": "step_schedule", "along": "lambda_schedule"},
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
            if not hasattr(moved, old_name):
                setattr(moved, old_name, getattr(moved, new_name))


def install() -> None:
    """Forward imports of old module names. Installed behind all other finders: it is asked only when they fail."""
    if not any(isinstance(finder, MovedModuleFinder) for finder in sys.meta_path):
        sys.meta_path.append(MovedModuleFinder())


def renamed_names(module: str) -> Callable[[str], Any]:
    """Return a `__getattr__` for a module that stayed where it was, for the names of it in RENAMED."""

    def forward(name: str) -> Any:
        if name not in RENAMED[module]:
            raise AttributeError(f"module '{module}' has no attribute '{name}'")
        new = RENAMED[module][name]
        warnings.warn(f"{module}.{name} is deprecated: use {module}.{new}.", DeprecationWarning, stacklevel=2)
        return getattr(sys.modules[module], new)

    return forward


def moved_names(package: str, **names: str) -> Callable[[str], Any]:
    """Return a module `__getattr__` for names that moved into a module of the package.

    `Space="space"` moved, `draw="space:draw_recipes"` was renamed as well.
    """

    def forward(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        module, _, new_name = f"{package}.{names[name]}".partition(":")
        new = f"{new_name} from {module}" if new_name else f"it from {module}"
        warnings.warn(f"{package}.{name} is deprecated: import {new} instead.", DeprecationWarning, stacklevel=2)
        value = getattr(import_module(module), new_name or name)
        setattr(sys.modules[package], name, value)  # the next use finds it there: one warning for each name
        return value

    return forward
