"""A Config read from YAML, and what is said of a bad file."""

import sys

import pytest
from saying import KEY, refusal, written

from dingo.config import Config, Reconnect
from dingo.errors import BadConfig


def test_a_file_sets_fields(path):
    written(
        path,
        f"workers: 3  # few\nmarshal_locally: on\ngrace_seconds: 5\nmax_pending:\nsigning_keys: [{KEY}]\n"
        "reconnect:\n  policy: fixed\n  tries: 2\n",
    )
    assert Config.from_yaml(path) == Config(
        workers=3,
        marshal_locally=True,
        grace_seconds=5.0,
        signing_keys=(KEY,),
        reconnect=Reconnect("fixed", tries=2),
    )


def test_an_empty_mapping_gives_the_defaults(path):
    assert Config.from_yaml(written(path, "{}")) == Config()


def test_a_byte_order_mark_is_no_part_of_the_first_key(path):
    path.write_bytes(b"\xef\xbb\xbfworkers: 3")
    assert Config.from_yaml(path).workers == 3


def test_a_path_may_be_text(path):
    assert Config.from_yaml(str(written(path, "workers: 3"))).workers == 3


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("workers: 3\nworkerz: 4\n", 2, "'workers'"),
        ("queue: a\n\nworkers: four\n", 3, "workers must be"),
        ("workers:\n", 1, "None"),
        ("keep_result: 2024-01-01", 1, "keep_result must be"),
        ("workers: 3\nqueue: a\nworkers: 4\n", 3, "first on line 1"),
        ("reconnect:\n  base: 1\n  base: 2\n", 3, "twice"),
        ("queue: a\nreconnect: {bas: 1}\n", 2, "'base'"),
        ("workers: 3\n\tqueue: a\n", 2, "not valid YAML"),
        ("workers: [3\n", 2, "not valid YAML"),
        ("queue: a\n---\nqueue: b\n", 2, "single document"),
        ("queue: a\nbackend: !!python/name:os.system\n", 2, "not valid YAML"),
        ("reconnect: &a {base: *a}", 1, "recursive"),
        ("queue: a\nbackend: 2024-99-99\n", 2, "cannot be read"),
        ("queue: a\n? [workers]\n: 3\n", 2, "a key must be a name"),
        ("queue: a\n<<: {workers: 3}\n", 2, "'<<'"),
        ("queue: a\nbackend: \x01\n", 2, "control character"),
        pytest.param(f"workers: {'9' * 5000}", 1, "cannot be read", id="huge"),
    ],
)
def test_a_bad_file_names_the_path_and_the_line(path, text, line, said):
    refused = refusal(Config.from_yaml, written(path, text))
    assert refused.startswith(f"{path}:{line}: ") and said in refused


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("# nothing yet\n", "empty"),
        ("- workers\n", "sequence"),
        ("workers", "scalar"),
        pytest.param("[" * 20_000, "nested too deeply", id="deep"),
        ("accept_pickle: true", "signing_keys"),
    ],
)
def test_a_bad_file_names_the_path(path, text, said):
    refused = refusal(Config.from_yaml, written(path, text))
    assert refused.startswith(f"{path}: ") and said in refused


def test_a_file_in_another_encoding_names_the_line(path):
    path.write_bytes(b"workers: 3\nqueue: \xff\n")
    assert refusal(Config.from_yaml, path).startswith(f"{path}:2: ")


def test_a_missing_file_is_named(path):
    assert refusal(Config.from_yaml, path).startswith(f"{path}: cannot be read: No such file")


def test_a_directory_is_no_file(tmp_path):
    assert refusal(Config.from_yaml, tmp_path).startswith(f"{tmp_path}: cannot be read")


@pytest.mark.parametrize(
    "text",
    [
        "broker: redis:/user:hunter2@host",
        "broker: [redis://user:hunter2@host]",
        "signing_keys: [hunter2]",
        "signing_keys: hunter2",
        "signing_keys: [*hunter2]",
        "signing_keys: [!hunter2 x]",
        "signing_keys: [!hunter2!x y]",
        "signing_keys: [hunter2",
        "signing_keys: 'hunter2",
        'signing_keys: "hunter2\\q"',
        "signing_keys: [&hunter2 a, &hunter2 b, *c]",
        "hunter2",
        "broker: hunter2: x",
    ],
)
def test_a_bad_file_never_shows_a_secret(path, text):
    assert "hunter2" not in refusal(Config.from_yaml, written(path, text))


def test_the_error_of_a_bad_file_hides_that_of_the_parser(path):
    with pytest.raises(BadConfig) as caught:
        Config.from_yaml(written(path, "signing_keys: [hunter2"))
    assert caught.value.__suppress_context__


def test_without_pyyaml_the_extra_is_named(path, monkeypatch):
    monkeypatch.setitem(sys.modules, "yaml", None)
    assert "dingo-tasks[yaml]" in refusal(Config.from_yaml, written(path, "workers: 3"))
