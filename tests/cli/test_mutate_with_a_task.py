"""`bughunt mutate FILE --task SLUG`: the file is run before bugs are looked for."""

import pytest
from bughunt_mutator.registry import load_operators

from bughunt import references


def test_a_file_that_is_run_first_shows_more_bugs_and_none_that_shapes_refuse(shell):
    folder = references.load("kmeans-pp").folder
    (shell.here / "train.py").write_bytes((folder / "train.py").read_bytes())
    plain = shell("mutate", "train.py", "--json")
    run = shell("mutate", "train.py", "--task", "kmeans-pp", "--json")
    assert (plain.code, run.code) == (0, 0), run.err
    before, after = ({m["key"]: m["operator"] for m in done.json["mutants"]} for done in (plain, run))
    needing = {id_ for id_, operator in load_operators().items() if operator.facts}
    assert not needing & set(before.values())
    assert needing & set(after.values())
    assert {before[key] for key in set(before) - set(after)} >= {"unsqueeze-wrong-dim"}
    again = shell("mutate", "train.py", "--task", "kmeans-pp", "--json")
    assert again.out == run.out


@pytest.mark.parametrize(
    ("text", "slug", "said"),
    [
        ("x = 1\n", "kmeans-pp", "does not run as kmeans-pp"),
        ("def f(:\n", "kmeans-pp", "line 1, column 7"),
        ("x = 1\n", "kmeans", "Did you mean kmeans-pp?"),
    ],
    ids=["no such program", "no python", "an unknown task"],
)
def test_a_file_that_cannot_be_run_is_code_2_with_the_reason(shell, text, slug, said):
    (shell.here / "train.py").write_text(text)
    done = shell("mutate", "train.py", "--task", slug)
    assert (done.code, said in done.err, "Traceback" in done.err) == (2, True, False), done.err
