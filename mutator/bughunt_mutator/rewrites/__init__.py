"""The rewrites that a disguise is made of, by what they touch."""

from bughunt_mutator.rewrites import (  # noqa: F401 - each registers its rewrites
    arithmetic,
    arrays,
    branches,
    calls,
    imports,
    loops,
    order,
    prose,
    shapes,
    temporaries,
)
