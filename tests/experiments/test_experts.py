"""The table of scripted policies: its sentences follow from its numbers."""

import json

import pandas as pd

from experiments.metaworld import experts, table_experts
from multitask.rl.envs import MT10
from reporting import findings, render


def line(task, *, expert=(1.0, 5.0), still=(0.0, 1.0), step=40, draw=0, replaced=False):
    found = {"task": task, "mt10": task in MT10, "draw": draw, "success_of_v2": replaced}
    for version, paid, idle in zip(("v1", "v2"), expert, still, strict=True):
        found |= {
            f"success_step_{version}": step,
            f"expert_reward_{version}": paid,
            f"random_reward_{version}": idle - 0.5,
            f"still_reward_{version}": idle,
        }
    return found


def report(*lines):
    return {
        "scale": "quick",
        "horizon": 150,
        "long_horizon": 500,
        "tasks": list(lines),
        "versions": {"metaworld": "3.1.1"},
    }


def test_notes_count_what_the_table_holds():
    """Fails where a sentence is typed: other numbers, other sentences."""
    found = report(
        line("soccer-v3", draw=1),
        line("window-close-v3", expert=(-0.1, 5.0), still=(72.0, 1.0)),
        line("stick-push-v3", step=0, replaced=True),
    )
    table = table_experts.experts(found)
    assert list(table["task"]) == ["window-close-v3", "soccer-v3", "stick-push-v3"]  # MT10 first
    notes = "\n".join(table_experts.notes(found, table))
    assert "solves 2 of 3 tasks within 150 steps where version 1 is rewarded, 2 where" in notes
    assert "drawn again: soccer\n" in notes
    assert "version 1 pays the scripted policy less than standing still" in notes
    assert "in 1 of 3 tasks: window-close (MT10)\n" in notes
    assert "nothing (0 or less a step) in 1 of 3 tasks: window-close (MT10)\n" in notes
    assert "in 0 of 3 tasks: none\n" in notes
    assert "impossible or nearly so: stick-push\n" in notes
    shown = table_experts.shown(table)
    assert list(shown["v1: solved at step"]) == ["40", "40", render.DASH]
    assert shown["v1: standing still"][0] == "72.0"


def test_table_is_written_in_four_forms(tmp_path):
    path = tmp_path / "experts.json"
    path.write_text(json.dumps(report(line("push-v3"))))
    files = {kind: str(tmp_path / f"t.{kind}") for kind in ("csv", "md", "tex", "html")}
    table_experts.write(str(path), **files)
    assert pd.read_csv(files["csv"])["expert_reward_v2"].tolist() == [5.0]
    assert all((tmp_path / f"t.{kind}").stat().st_size > 100 for kind in files)


def test_a_scripted_policy_earns_more_than_doing_nothing_where_it_is_paid():
    """Fails where the policy's actions do not reach the simulator, or its observation is wrong."""
    found = experts.look("reach-v3")
    assert 0 < found["success_step_v1"] <= experts.HORIZON
    assert found["expert_reward_v1"] > 100 * abs(found["random_reward_v1"])
    assert found["expert_reward_v2"] > 2 * found["still_reward_v2"]


def test_the_finding_about_rewards_is_read_from_the_table(tmp_path):
    found = report(
        line("window-close-v3", expert=(-0.1, 5.0), still=(72.0, 1.0)),
        line("reach-v3"),
        line("soccer-v3", expert=(-0.1, 5.0), still=(-0.3, 1.0)),
    )
    table_path = tmp_path / "tables" / "table_experts.csv"
    render.write_csv(table_experts.experts(found), table_path)
    text = findings.rewards(findings.Results(tmp_path))
    assert "of 3 tasks" in text
    assert "nothing in 2 and less than standing still or random actions in 1." in text
    text = findings.rewards_of_mt10(findings.Results(tmp_path))
    assert "nothing: window-close; less" in text
    assert "random actions: window-close." in text
    table_path.unlink()
    assert findings.rewards(findings.Results(tmp_path)) == ""
