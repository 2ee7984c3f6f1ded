"""Long runs: from a clone at a tag, each once, copied back; a fault stops its own run alone."""

import errno
import json
import shutil
import subprocess

import pytest

from experiments import campaign
from experiments import config as configs
from experiments.run import PLACES
from multitask.runs.errors import UserError
from multitask.runs.provenance import ROOT
from system import lifeline

CONFIG = ROOT / "config" / "laptop.yaml"
# Substitutes the training command: it writes training's files, and a line in `calls`.
TRAINER = """
import json, pathlib, sys
experiment, method, seed = sys.argv[1], sys.argv[2], int(sys.argv[4])
with open("calls", "a") as file:
    file.write(f"{experiment}/{method}/{seed}\\n")
if method == "bad":
    sys.exit(2)
out = pathlib.Path(sys.argv[sys.argv.index("--out") + 1])
out.mkdir(parents=True)
settings = json.load(open("settings.json"))
info = {"experiment": experiment, "method": method, "scale": "laptop", "data": {}}
json.dump({**info, "seeds": [seed], "settings": settings}, open(out / "run.json", "w"))
(out / "metrics.csv").write_text("seed\\n")
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A git repository with a substitute for the training command."""
    root = tmp_path / "project"
    for folder in ("config", "experiments"):
        (root / folder).mkdir(parents=True)
    shutil.copy(CONFIG, root / "config" / "laptop.yaml")
    settings = configs.settings_of(configs.read(str(CONFIG)), "metaworld_mt10")
    kept = {key: value for key, value in settings.items() if key not in PLACES}
    (root / "settings.json").write_text(json.dumps(kept))
    (root / "experiments" / "__init__.py").write_text("")
    (root / "experiments" / "run.py").write_text(TRAINER)
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    for words in (["init", "-q"], ["add", "-A"], [*identity, "commit", "-qm", "all"]):
        subprocess.run(["git", *words], cwd=root, check=True)
    monkeypatch.setattr(campaign, "ROOT", root)
    return root


def calls(project):
    folder = next(path for path in project.parent.glob("campaign-laptop-*") if path.is_dir())
    return (folder / "calls").read_text().splitlines()


def test_names_stand_for_runs_seed_by_seed():
    config = configs.read(str(CONFIG))
    found = [str(one) for one in campaign.targets(["metaworld_mt10", "triad/sac/3"], config)]
    assert found[:3] == [
        "metaworld_mt10/sac/0",
        "metaworld_mt10/sac_pcgrad/0",
        "metaworld_mt10/sac/1",
    ]
    assert found[-1] == "triad/sac/3"
    assert len(found) == 11
    with pytest.raises(UserError, match="no experiment 'mt10'"):
        campaign.targets(["mt10"], config)


def test_runs_are_trained_once_from_the_tag_and_copied_back(project):
    asked = ["laptop", "metaworld_mt10/sac/0-1", "--jobs", "1"]
    assert campaign.main(asked) == 0
    for seed in (0, 1):
        folder = project / f"results/laptop/runs/metaworld_mt10/sac/seeds{seed}-{seed}"
        assert sorted(path.name for path in folder.iterdir()) == ["metrics.csv", "run.json"]
    (project / "experiments" / "run.py").write_text("raise SystemExit(2)")  # disturbs nothing
    assert campaign.main([*asked, "metaworld_mt10/independent/0"]) == 0
    assert calls(project) == [
        f"metaworld_mt10/{run}" for run in ("sac/0", "sac/1", "independent/0")
    ]


def test_a_tag_of_another_commit_is_another_campaign(project):
    run = ["laptop", "metaworld_mt10/sac/0"]
    assert campaign.main(run) == 0
    (project / "later").write_text("")
    for words in (
        ["add", "-A"],
        ["-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-qm", "b"],
    ):
        subprocess.run(["git", *words], cwd=project, check=True)
    assert not (campaign.clone("laptop") / "later").exists()
    assert (campaign.clone("laptop", "campaign-two") / "later").exists()


def test_a_run_of_other_settings_or_before_its_end_is_not_done(project):
    target = campaign.Target("metaworld_mt10", "sac", 0)
    config = configs.read(str(CONFIG))
    settings = json.loads((project / "settings.json").read_text())
    config["experiments"]["metaworld_mt10"]["precision"] = settings["precision"] = "float32"
    older = {key: value for key, value in settings.items() if key != "precision"}
    results = project / "results" / "laptop"
    folder = target.folder(results)
    folder.mkdir(parents=True)
    same = {"experiment": "metaworld_mt10", "method": "sac", "scale": "laptop", "data": {}}
    (folder / "metrics.csv").touch()
    for info, done in (
        ({"seeds": [0], "settings": settings}, True),
        ({"seeds": [1], "settings": settings}, False),
        ({"seeds": [0], "settings": older}, True),  # float32 is the default
        ({"seeds": [0], "settings": {**settings, "width": 1}}, False),
        ({"seeds": [0], "settings": settings, "unfinished": {"0": 7}}, False),
    ):
        (folder / "run.json").write_text(json.dumps(same | info))
        assert campaign.is_done(target, [results], config) == done
    (folder / "run.json").write_text(json.dumps({**same, "seeds": [0], "settings": settings}))
    (folder / "metrics.csv").unlink()
    assert not campaign.is_done(target, [results], config)
    for text in ("", "[]", "{}", json.dumps({**same, "seeds": 0}), '{"seeds": [0], "settings": 5}'):
        (folder / "run.json").write_text(text)
        with pytest.raises(UserError, match=r"run\.json"):
            campaign.is_done(target, [results], config)


def test_a_run_that_cannot_be_copied_is_not_counted_as_done(project, capsys, monkeypatch):
    """Bug: the thread ended, and the campaign with exit status 0."""

    def full(source, target):
        raise OSError(errno.ENOSPC, "No space left on device", str(target))

    monkeypatch.setattr(campaign, "copy", full)
    assert campaign.main(["laptop", "metaworld_mt10/sac/0", "--jobs", "1000000000"]) == 2
    assert "No space left on device" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["labtop"], "no scale 'labtop'"),
        (["../config/laptop"], "no scale '../config/laptop'"),
        (["laptop", "--tag", "project"], "project is no clone at the tag project"),
        (["laptop", "mt10"], "no experiment 'mt10'"),
        (["laptop", "triad/sac/x"], "--seeds takes"),
        (["laptop", "--tag", "../a"], "--tag '../a'"),
        (["laptop", "--status"], "no campaign has begun"),
        (["laptop", "--so-far", "--tag", "other"], "no campaign has begun"),
    ],
)
def test_a_misspelt_name_and_a_question_make_neither_tag_nor_clone(project, words, said):
    with pytest.raises(UserError, match=said):
        campaign.main(words)
    assert not campaign.git("tag")
    assert [path.name for path in project.parent.iterdir()] == ["project"]


@pytest.mark.parametrize("tagged", [False, True])
@pytest.mark.parametrize("cloned", [False, True])
def test_a_folder_that_is_no_clone_at_the_tag_is_left_alone(project, tagged, cloned):
    """Bug: runs were trained in whatever folder had the tag's name."""
    if tagged:
        campaign.git("tag", "other")
    other = project.parent / "other"
    if cloned:
        campaign.git("clone", "-q", ".", str(other))
        one = ["-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-q", "--allow-empty"]
        campaign.git("-C", str(other), *one, "-m", "later")
    else:
        other.mkdir()
    with pytest.raises(UserError, match="other is no clone at the tag other"):
        campaign.main(["laptop", "metaworld_mt10/sac/0", "--tag", "other"])
    assert not (other / "results").exists()
    assert campaign.git("tag") == "other" * tagged


def test_a_fault_ends_its_run_alone(project, capsys):
    assert campaign.main(["laptop", "metaworld_mt10/bad/0", "metaworld_mt10/sac/0"]) == 2
    assert (project / "results/laptop/runs/metaworld_mt10/sac/seeds0-0/run.json").exists()
    assert "metaworld_mt10/bad/0: ended with 2" in capsys.readouterr().out
    assert campaign.main(["laptop", "--status"]) == 0
    assert "1 done · 1 failed" in capsys.readouterr().out


def test_a_run_that_cannot_be_written_so_far_is_told(project, capsys):
    """Bug: it was said to be written, and the exit status was 0."""
    folder = campaign.clone("laptop")
    for method in ("bad", "sac"):
        path = folder / f"results/laptop/checkpoints/metaworld_mt10/{method}/seed0.pt"
        path.parent.mkdir(parents=True)
        path.touch()
    names = ["metaworld_mt10/bad/0", "metaworld_mt10/sac/0"]
    assert campaign.main(["laptop", "--so-far", *names]) == 2
    said = capsys.readouterr().out
    assert "bad/0: ended with 2\n" in said
    assert "sac/0: as far as it is, in" in said


def test_a_relative_folder_of_data_is_that_of_the_caller(tmp_path, monkeypatch):
    """Bug: every run looked for it below the clone."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PCGRAD_DATA", "mine")
    (tmp_path / "mine").mkdir()
    found = campaign.environment({"data_root": "data", "torch_threads": 1})
    assert found["PCGRAD_DATA"] == str(tmp_path / "mine")


def test_a_second_campaign_in_the_same_clone_is_refused(project):
    folder = campaign.clone("laptop")
    with (
        lifeline.hold(folder / ".campaign.lock", "another"),
        pytest.raises(UserError, match=r"runs in .* already"),
    ):
        campaign.main(["laptop", "metaworld_mt10/sac/0"])
    assert campaign.main(["laptop", "metaworld_mt10/sac/0"]) == 0


def test_the_time_left_comes_from_the_progress_of_the_run(project, monkeypatch):
    config = configs.read(str(CONFIG))
    target = campaign.Target("metaworld_mt10", "sac", 0)
    one = campaign.Campaign(project, "laptop", config)
    log = one.log(target)
    log.parent.mkdir(parents=True)
    log.write_text("progress: metaworld_mt10/sac seed 0: collection 20 of 167; 1.0 h so far\n")
    monkeypatch.setattr(campaign.time, "monotonic", lambda: 3600.0)
    one.running[target] = (0.0, 10)  # 10 collections in an hour
    assert "metaworld_mt10/sac/0 at 20 of 167, 14.7 h left" in one.status()


@pytest.mark.parametrize(
    ("line", "step"),
    [
        ("progress: multimnist/sum seed 1: epoch 3 of 20, step 50 of 200; 9 min so far", 2.25),
        ("progress: multimnist/sum seed 1: epoch 1 of 20, step 50; 9 min so far", 0.0),
        ("progress: triad/sac seed 0: collection 7 of 100; 9 min so far\nwarning: warm", 7.0),
        ("warning: warm", 0.0),
        ("", 0.0),
    ],
)
def test_the_last_line_of_progress_in_a_log_tells_the_step(line, step, tmp_path):
    log = tmp_path / "run.log"
    assert campaign.step_of(log) == 0.0
    log.write_text(line)
    assert campaign.step_of(log) == step
