"""Every reference program passes its own battery and reaches its band, as the judge sees it."""

import pytest

from bughunt import references
from bughunt.bugsets.measure import measure
from bughunt.judge.judge import Judge


@pytest.fixture(scope="module")
def judge():
    with Judge() as judge:
        yield judge


@pytest.mark.parametrize("slug", references.slugs())
def test_a_reference_passes_its_own_battery_and_reaches_its_band(judge, slug):
    report = measure(judge, slug, seed=3)
    assert report["tests"]["failed"] == []
    assert report["in_band"], report


@pytest.mark.parametrize("slug", references.slugs())
def test_a_reference_is_described(slug):
    task = references.load(slug).task
    assert task.slug == slug
    assert task.topics
    assert task.categories
    assert (references.load(slug).folder / "page.md").read_text(encoding="utf-8").startswith("# ")
