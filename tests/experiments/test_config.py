"""Configs: a value that no run could use is named in one line before anything begins."""

import copy
import json
import math

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments import config as configs
from experiments.run import ROOT
from system.errors import UserError
from system.reading import parse_json, parse_yaml
from system.settings import rows

TINY = configs.read(str(ROOT / "tests/tiny.yaml"))


def leaves(content, place=()):
    if isinstance(content, dict | list):
        items = content.items() if isinstance(content, dict) else enumerate(content)
        for key, value in items:
            yield from leaves(value, (*place, key))
    else:
        yield place, content


def changed(place, value):
    config = copy.deepcopy(TINY)
    inner = config
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    return config


def refused(config, **more):
    with pytest.raises(UserError) as caught:
        configs.check(config, **more)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
    return str(caught.value)


ONE_PER_KEY = list(
    {
        place[-1] if isinstance(place[-1], str) else place[-2]: (place, value)
        for place, value in leaves(TINY)
    }.values()
)


@pytest.mark.parametrize(("place", "value"), ONE_PER_KEY, ids=lambda part: str(part)[:60])
def test_no_key_takes_what_no_run_could_use(place, value):
    """Each key in turn: a number that is none, one without end, text of two lines, another type."""
    wrong = [math.nan, math.inf, -math.inf, 10**30, -(10**30), None, {}, "two\nlines", b"bytes"]
    if isinstance(value, int) and not isinstance(value, bool):
        wrong += [1.0, -1, True, "1"]
    elif isinstance(value, float):
        wrong += ["0.1", [0.1], True]
    elif isinstance(value, bool):
        wrong += [1, "yes"]
    for one in wrong:
        said = refused(changed(place, one))
        assert str(place[-1]) in said or str(place[-2]) in said


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("experiments", "multimnist", "batch_size"), 10**30),
        (("experiments", "multimnist", "train_examples"), 10**12),
        (("experiments", "metaworld_mt3", "width"), 10**7),
        (("torch_threads",), 10**9),
        (("experiments", "multimnist", "learning_rate"), 1e300),
        (("experiments", "multimnist", "learning_rate"), 1e-320),
        (("experiments", "metaworld_mt3", "gradnorm_rate"), 1e39),
        (("experiments", "multimnist", "validation_share"), 0.5),  # of one image, nothing is left
        (("scale",), "tiny\n"),
        (("scale",), "published"),
        (("scale",), "a" * 300),
        (("data_root",), ""),
        (("experiments", "multimnist", "dropout"), math.nan),
    ],
)
def test_parts_of_configs_are_checked_by_the_same_rules(place, value):
    full = changed(place, value)
    part = {key: full[key] for key in ("scale", "data_root", "torch_threads", "device")}
    block = {k: v for k, v in full["experiments"]["multimnist"].items() if k not in configs.RUNS}
    part["experiments"] = {
        "multimnist": block,
        "metaworld_mt3": full["experiments"]["metaworld_mt3"],
    }
    assert refused(part, part=True)


@pytest.mark.parametrize(
    ("seeds_of", "named"),
    [
        ({"mgda": [0]}, "'mgda' is no row"),
        ({"pcgrad_tuned": [0]}, "pcgrad_tuned"),
        ({"sum": []}, "sum"),
        ({"sum": [-1]}, "sum"),
        ([0], "seeds_of"),
    ],
)
def test_seeds_of_a_row_are_checked(seeds_of, named):
    config = changed(("experiments", "multimnist", "methods"), ["sum", "pcgrad"])
    config["experiments"]["multimnist"]["seeds_of"] = {"sum": [3]}
    configs.check(config)
    assert rows(config["experiments"]["multimnist"])["sum"] == [3]
    config["experiments"]["multimnist"]["seeds_of"] = seeds_of
    with pytest.raises(UserError, match=named):
        configs.check(config)


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (
            ("experiments", "celeba", "image_size"),
            16,
            "no key 'image_size'; did you mean 'image_side'",
        ),
        (("experiments", "celebA"), {}, "no key 'celebA'; did you mean 'celeba'?"),
        (("experiments", "celeba", "methods"), ["pc_grad"], "did you mean 'pcgrad'?"),
        (("experiments", "celeba", "precision"), "bf16", "did you mean 'bfloat16'?"),
        (("experiments", "metaworld_mt10", "tasks"), "MT11", "did you mean 'MT10'?"),
        (("experiments", "metaworld_mt10", "tasks"), [], "should be non-empty"),
        (("experiments", "celeba", "learning_rate"), "1e-5", "'1e-5' is text; write 1.0e-05"),
        (("experiments", "celeba", "epochs"), "1e1", "'1e1' is text; write 10 "),
        (("experiments", "celeba", "epochs"), "inf", "'inf' is not of type 'integer'"),
    ],
)
def test_a_near_miss_is_named_with_what_was_meant(place, value, said):
    assert said in refused(changed(place, value))


def test_what_a_config_leaves_out_is_the_papers():
    part = {"scale": "tiny", "experiments": {"multimnist": {"epochs": 1}}}
    block = configs.read(json.dumps(part))["experiments"]["multimnist"]
    assert (block["epochs"], block["batch_size"], block["dropout"]) == (1, 256, 0.5)


def test_a_run_reads_no_setting_that_its_method_ignores():
    def read(method, experiment="metaworld_mt10", config=TINY):
        return configs.settings_of(config, experiment, method)

    assert "gradnorm_alpha" in read("gradnorm")
    assert not {"gradnorm_alpha", "gradnorm_rate", "cosreg_weight"} & set(read("sac_pcgrad"))
    assert "cosreg_weight" in read("cosreg")
    assert "weight_decay" in read("sac_weight_decay")
    assert "weight_decay" not in read("sac")
    assert "momentum" in read("sum", "multimnist")
    assert "momentum" not in read("sum", "celeba")  # Adam
    assert not {"methods", "seeds", "tuning", "seeds_per_job"} & set(read("sum", "multimnist"))


def test_the_data_may_be_in_the_home_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/somewhere")
    found = configs.settings_of({**TINY, "data_root": "~/data"}, "multimnist")
    assert found["data_root"] == "/somewhere/data"
    with pytest.raises(UserError, match="data_root: '~nosuchuser/data' is the home of nobody"):
        configs.settings_of({**TINY, "data_root": "~nosuchuser/data"}, "multimnist")


@pytest.mark.parametrize("missing", ["methods", "seeds"])
def test_a_scale_says_what_it_runs(missing):
    config = copy.deepcopy(TINY)
    del config["experiments"]["celeba"][missing]
    assert f"experiments.celeba: '{missing}' is missing" in refused(config)


def test_the_printed_config_is_complete_and_says_where_values_come_from():
    text = configs.printed(TINY)
    assert yaml.safe_load(text) == TINY
    assert "Appendix J" in text
    assert "not given" in text


BROKEN = [
    ("a: 'never closed", "line 1"),
    ("a: 1\nb: [1, 2\nc: 3", "line 3"),
    ("a: !!python/object/apply:os.system ['true']", "line 1, column 4"),
    ("a: 1\nb: 2\na: 3", "line 3, column 1: no sound YAML (the key 'a' is given twice"),
    ("a: {x: 1, x: 2}", "'x' is given twice"),
    ("a: \0", "column 4"),
    ("[" * 100_000, "nested too deeply"),
    ("a: &a [*a]", "nested too deeply"),
    ("a: .nan", "a: nan is no finite number"),
    ("a: 1.0e+999", "no finite number"),
    ("a: " + "9" * 40, "64 bits"),
    ("a: " + "9" * 5000, "sound YAML"),
    ("1: 2", "the key 1 is no text"),
    *((f"a: {one}", "decimal") for one in ("010", "1:30", "0x10", "0b1", "1_000", "1:30.5", "-07")),
    ("a: 2001-02-03", "put text into quotes"),
    ("a: 2001-99-99", "sound YAML"),
    ("? [a]\n: 1", "sound YAML"),
    ("a: b: c", "line 1"),
    ("\t- a", "line 1"),
    *((f"a: !!{kind} x", "no sound YAML") for kind in ("bool", "timestamp", "int", "float", "map")),
    *((f"a: !!{kind} ''", "no sound YAML") for kind in ("bool", "timestamp", "int", "float")),
    ("a: 1\n~: 2", "line 2, column 1: no sound YAML (a key is empty)"),
    ("a: &a {x: 1}\nb: {<<: *a}", "line 2, column 5: no sound YAML (write out what << merges)"),
    ("a: !!set {b, c}", "a value of type set"),
    ("--- a\n--- b", "line 2"),
    (
        "\n".join(
            [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9 if i else ['1'])}]" for i in range(9)]
        ),
        "more than",
    ),
]


@pytest.mark.parametrize(("text", "said"), BROKEN, ids=[said for _, said in BROKEN])
def test_text_that_is_no_sound_yaml_is_named_with_its_place(text, said):
    with pytest.raises(UserError) as caught:
        parse_yaml(text, "some.yaml", "mend it")
    assert str(caught.value).startswith("some.yaml")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["{" + ", ".join(f'"{n}": 1' for n in [*range(100_000), 99_999]) + "}"]
    + ["{bad", "", "[" * 100_000, '{"a": NaN}', '{"a": 1e999}', '{"a": 1, "a": 2}', '{"a": "\n"}']
    + ['{"a": ' + "9" * n + "}" for n in (30, 5000)],
)
def test_text_that_is_no_sound_json_is_one_line(text):
    with pytest.raises(UserError) as caught:
        parse_json(text, "some.json", "mend it")
    assert str(caught.value).startswith("some.json")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["", "a\0b", "config/quick.yaml\n", "[1]", "n" * 300, "/dev/zero"])
def test_what_is_neither_a_file_nor_json_is_one_line(name):
    with pytest.raises(UserError) as caught:
        configs.read(name)
    assert str(caught.value).isprintable()


def test_a_file_that_is_no_text_is_named_with_its_place(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_bytes("scale: tiny\nname: \u00e9\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"c\.yaml, line 2, column 7: not UTF-8"):
        configs.read(str(path))


LINE = (ROOT / "tests/tiny.yaml").read_text(encoding="utf-8")[:900]


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(LINE) - 1), st.text(max_size=4), st.integers(0, 5))
def test_a_mutated_file_is_read_or_refused_in_one_line(at, inserted, removed):
    """A damaged text raises a UserError and nothing else."""
    text = LINE[:at] + inserted + LINE[at + removed :]
    for parse in (parse_yaml, parse_json):
        try:
            parse(text, "x", "mend it")
        except UserError as error:
            said = str(error)
        else:
            said = ""
        assert "\n" not in said


@settings(max_examples=200, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4)
        ),
        max_leaves=12,
    )
)
def test_sound_json_comes_back_and_all_else_is_refused(content):
    text = json.dumps(content)
    try:
        found = parse_json(text, "x", "mend it")
    except UserError:
        flat = [value for _, value in leaves({"": content})]
        assert any(
            (isinstance(v, float) and not math.isfinite(v)) or (type(v) is int and abs(v) >= 2**63)
            for v in flat
        )
    else:
        assert found == content
