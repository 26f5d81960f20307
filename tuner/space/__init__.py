"""Search spaces and published tables: loaded, checked, rehearsed."""

from tuner.deprecated import moved_names

__getattr__ = moved_names(
    "tuner.space",
    Space="space",
    Draws="space:DrawnRecipes",
    load_space="space",
    known_spaces="space",
    find_space="space",
    draw="space:draw_recipes",
    describe="space:describe_parameter",
)
