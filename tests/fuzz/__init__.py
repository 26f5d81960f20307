"""Bad inputs by the thousand. A family is a module with `make_case(rng, ground)`; its name and share stand here.

Case number N of a seed is always the same, so that `python -m benchmarks.fuzz --family F --seed S --only N` tries
it again. A fault that was found here is first added, as a case with a name, to the unit tests of what it is in.
"""

FAMILIES = {  # name of the module -> cases in `make test-all`; `make test` tries half of them
    "bundles": 360,
    "dashboard": 320,
    "images": 420,
    "numbers": 300,
    "paths": 420,
    "spaces": 30,
    "tables": 150,
}
