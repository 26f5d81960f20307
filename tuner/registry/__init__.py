"""Find the builder of a part by name, check arguments against its signature, and numbers against a range.

A table is a plain dict from short names to "module:function", so that naming a part imports nothing. The
signature is the schema: the program supplies positional parameters, a space can set and search keyword-only
parameters.

A part of the user's own is named by "package.module:function". Its module is looked for among the installed
packages and then in the own folders: beside the space, and the working folder.
"""

from tuner.registry.builders import PartTable as PartTable
from tuner.registry.builders import build as build
from tuner.registry.builders import count_positional as count_positional
from tuner.registry.builders import find_builder as find_builder
from tuner.registry.builders import part_problems as part_problems
from tuner.registry.builders import searchable_args as searchable_args
from tuner.registry.listing import PartInfo as PartInfo
from tuner.registry.listing import list_parts as list_parts
from tuner.registry.ranges import BETWEEN_0_AND_1 as BETWEEN_0_AND_1
from tuner.registry.ranges import COUNT as COUNT
from tuner.registry.ranges import FRACTION as FRACTION
from tuner.registry.ranges import NOT_NEGATIVE as NOT_NEGATIVE
from tuner.registry.ranges import POSITIVE as POSITIVE
from tuner.registry.ranges import SHARE as SHARE
from tuner.registry.ranges import Range as Range
from tuner.registry.ranges import check_choice as check_choice
from tuner.registry.ranges import check_range as check_range
from tuner.registry.ranges import unknown_choice as unknown_choice
