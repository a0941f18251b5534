"""Config: defaults, refusals, changed copies, the environment, and what is shown of it."""

import ast
import dataclasses
import inspect
import itertools
import os
import subprocess
import sys

import pytest
from saying import KEY, OTHER_KEY, refusal, written

from dingo.config import Config, Reconnect
from dingo.config.fields import kinds_of


@pytest.mark.parametrize(
    ("name", "default"),
    [
        ("workers", min(32, (os.cpu_count() or 1) + 4)),
        ("max_pending", None),
        ("when_full", "raise"),
        ("marshal_locally", False),
        ("local_results", 1000),
        ("local_results_bytes", 64 * 1024 * 1024),
        ("exit_timeout_seconds", 10.0),
        ("broker", None),
        ("backend", None),
        ("queue", "default"),
        ("prefetch", None),
        ("keep_result", 3600.0),
        ("grace_seconds", 25.0),
        ("send_timeout_seconds", 60.0),
        ("connect_timeout_seconds", 5.0),
        ("transport_options", {}),
        ("lease_seconds", 30.0),
        ("unknown_task_seconds", 600.0),
        ("reconnect", Reconnect("exponential", tries=None, base=0.1, cap=5.0, jitter=True)),
        ("signing_keys", ()),
        ("accept_pickle", False),
        ("handle_signals", True),
        ("max_message_bytes", 1024 * 1024),
        ("source", None),
    ],
)
def test_default_of(name, default):
    assert getattr(Config(), name) == default


def test_every_field_that_can_be_given_is_checked():
    assert list(kinds_of(Config)) == [f.name for f in dataclasses.fields(Config) if f.init]


@pytest.mark.parametrize("cls", [Config, Reconnect])
def test_every_field_is_documented(cls):
    body = ast.parse(inspect.getsource(cls)).body[0].body
    after = {field.target.id: doc for field, doc in itertools.pairwise(body) if isinstance(field, ast.AnnAssign)}
    assert [name for name, doc in after.items() if not isinstance(doc, ast.Expr)] == []


def test_an_unknown_keyword_names_itself_and_the_nearest():
    text = refusal(Config, workerz=3)
    assert "'workerz'" in text and "'workers'" in text


def test_an_unknown_keyword_near_nothing_lists_the_keys():
    assert "max_pending" in refusal(Config, xyzzy=1)


def test_an_unknown_keyword_is_a_value_error():
    with pytest.raises(ValueError):
        Config(workerz=3)


def test_the_source_cannot_be_given():
    assert "'source'" in refusal(Config, source=None)


def test_arguments_are_keyword_only():
    with pytest.raises(TypeError):
        Config(3)


def test_the_signature_lists_the_fields():
    parameters = inspect.signature(Config).parameters
    assert "workers" in parameters and "values" not in parameters


def test_a_config_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().workers = 3


def test_equal_configs_have_equal_hashes():
    assert hash(Config(workers=3)) == hash(Config(workers=3))


def test_whole_seconds_become_floats():
    assert isinstance(Config(grace_seconds=3).grace_seconds, float)


NAN = float("nan")
INF = float("inf")


class Unprintable:
    def __repr__(self):
        raise RuntimeError("no repr")


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("workers", 0, "0"),
        ("workers", True, "True"),
        ("workers", 2.0, "2.0"),
        ("workers", "4", "'4'"),
        ("workers", None, "None"),
        pytest.param("workers", 10**5000, "largest", id="huge"),
        pytest.param("workers", -(10**5000), "bits", id="huge-negative"),
        pytest.param("workers", Unprintable(), "Unprintable", id="unprintable"),
        ("max_pending", 0, "0"),
        ("max_pending", True, "True"),
        ("when_full", "block", "'block'"),
        ("when_full", ["raise"], "list"),
        ("marshal_locally", 1, "1"),
        ("local_results", -1, "-1"),
        ("local_results_bytes", -1, "-1"),
        ("exit_timeout_seconds", -0.1, "-0.1"),
        ("broker", "localhost", "'localhost'"),
        ("broker", "", "''"),
        ("broker", "redis://localhost\n", "localhost"),
        ("broker", 5, "5"),
        ("backend", "local", "'local'"),
        ("queue", "", "''"),
        ("queue", "a,b", "'a,b'"),
        ("queue", "a\nb", "a\\nb"),
        ("queue", "é" * 128, "é"),
        ("prefetch", 0, "0"),
        ("keep_result", 0, "0"),
        ("keep_result", NAN, "nan"),
        ("keep_result", INF, "inf"),
        ("keep_result", "60", "'60'"),
        ("keep_result", False, "False"),
        ("keep_result", 10**400, "bits"),
        ("grace_seconds", 1e20, "longest"),
        ("grace_seconds", -1, "-1"),
        ("send_timeout_seconds", 0, "0"),
        ("connect_timeout_seconds", 0.0, "0.0"),
        ("lease_seconds", 2.9, "2.9"),
        ("unknown_task_seconds", -1, "-1"),
        ("reconnect", "linear", "'linear'"),
        ("reconnect", 3, "3"),
        ("signing_keys", KEY, "'str'"),
        ("signing_keys", None, "NoneType"),
        ("signing_keys", [KEY, b"x" * 32], "key 2 of 2"),
        ("signing_keys", [KEY, OTHER_KEY, KEY], "same as key 1"),
        ("signing_keys", ["é" * 15], "30 bytes"),
        ("signing_keys", ["\udc80" * 32], "UTF-8"),
        ("accept_pickle", "yes", "'yes'"),
        ("handle_signals", None, "None"),
        ("max_message_bytes", 0, "0"),
    ],
)
def test_a_wrong_value_names_the_key_and_the_value(name, value, shown):
    text = refusal(Config, **{name: value})
    assert text.startswith(f"{name} must be ") and shown in text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("exit_timeout_seconds", 0),
        ("grace_seconds", 0),
        ("unknown_task_seconds", 0),
        ("local_results", 0),
        ("lease_seconds", 3),
        ("broker", "local"),
        ("broker", "sqlite:////tmp/my calls.db"),
        ("broker", "memory://"),
        ("queue", "é" * 127),
        ("signing_keys", ("é" * 16,)),
    ],
)
def test_a_value_at_the_edge_is_taken(name, value):
    assert getattr(Config(**{name: value}), name) == value


def test_a_list_of_signing_keys_becomes_a_tuple():
    assert Config(signing_keys=[KEY, OTHER_KEY]).signing_keys == (KEY, OTHER_KEY)


def test_pickle_without_signing_keys_is_refused():
    assert "signing_keys" in refusal(Config, accept_pickle=True)


def test_pickle_with_signing_keys_is_accepted():
    assert Config(accept_pickle=True, signing_keys=[KEY]).accept_pickle


def test_a_long_value_is_cut_in_the_message():
    assert len(refusal(Config, when_full="x" * 100_000)) < 500


def test_a_broker_that_is_wrong_is_shown_without_its_password():
    assert "hunter2" not in refusal(Config, broker="redis:/user:hunter2@host")


def test_a_list_of_brokers_is_shown_without_its_passwords():
    assert "hunter2" not in refusal(Config, broker=["redis://user:hunter2@host"])


@pytest.mark.parametrize("keys", ["hunter2", ["hunter2"], ["hunter2" * 9, "hunter2" * 9], {"hunter2": 1}])
def test_wrong_signing_keys_are_not_shown(keys):
    assert "hunter2" not in refusal(Config, signing_keys=keys)


# --- replace ------------------------------------------------------------------------------------------


def test_replace_changes_what_it_is_given():
    assert Config().replace(workers=3).workers == 3


def test_replace_keeps_the_rest():
    assert Config(queue="slow").replace(workers=3).queue == "slow"


def test_replace_leaves_the_original():
    config = Config(workers=2)
    config.replace(workers=3)
    assert config.workers == 2


def test_replace_refuses_unknown_keys():
    assert "'workers'" in refusal(Config().replace, workerz=3)


def test_replace_checks_relations():
    assert "signing_keys" in refusal(Config().replace, accept_pickle=True)


def test_a_replaced_config_has_no_source(path):
    config = Config.from_yaml(written(path, "workers: 1"), watch=True)
    assert config.replace(workers=2).source is None


# --- the environment ----------------------------------------------------------------------------------


def from_env(**variables):
    return Config.from_env(environ=variables)


def test_an_empty_environment_gives_the_defaults():
    assert from_env() == Config()


@pytest.mark.parametrize(
    ("variable", "text", "name", "value"),
    [
        ("DINGO_WORKERS", "4", "workers", 4),
        ("DINGO_WORKERS", " 4\n", "workers", 4),
        ("DINGO_MAX_PENDING", "", "max_pending", None),
        ("DINGO_MAX_PENDING", "none", "max_pending", None),
        ("DINGO_WHEN_FULL", "wait", "when_full", "wait"),
        ("DINGO_KEEP_RESULT", "1e3", "keep_result", 1000.0),
        ("DINGO_BROKER", "redis://localhost", "broker", "redis://localhost"),
        ("DINGO_BACKEND", "redis://localhost", "backend", "redis://localhost"),
        ("DINGO_SIGNING_KEYS", f"{KEY}, {OTHER_KEY}", "signing_keys", (KEY, OTHER_KEY)),
        ("DINGO_SIGNING_KEYS", "", "signing_keys", ()),
        ("DINGO_RECONNECT", "fixed", "reconnect", Reconnect("fixed")),
        ("DINGO_TRANSPORT_OPTIONS", '{"region": "eu-north-1"}', "transport_options", {"region": "eu-north-1"}),
        ("DINGO_TRANSPORT_OPTIONS", "", "transport_options", {}),
    ],
)
def test_a_variable_sets_its_field(variable, text, name, value):
    assert getattr(from_env(**{variable: text}), name) == value


@pytest.mark.parametrize("text", ["true", "1", "yes", "on", "TRUE", "On"])
def test_text_for_true(text):
    assert from_env(DINGO_MARSHAL_LOCALLY=text).marshal_locally is True


@pytest.mark.parametrize("text", ["false", "0", "no", "off", "FALSE", "Off"])
def test_text_for_false(text):
    assert from_env(DINGO_HANDLE_SIGNALS=text).handle_signals is False


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("DINGO_WORKERS", "four"),
        ("DINGO_WORKERS", ""),
        ("DINGO_WORKERS", "4.5"),
        ("DINGO_WORKERS", "0"),
        pytest.param("DINGO_WORKERS", "9" * 5000, id="huge"),
        ("DINGO_KEEP_RESULT", "nan"),
        ("DINGO_KEEP_RESULT", "an hour"),
        ("DINGO_TRANSPORT_OPTIONS", "region=eu"),
        ("DINGO_TRANSPORT_OPTIONS", "[1]"),
        ("DINGO_ACCEPT_PICKLE", "maybe"),
        ("DINGO_SIGNING_KEYS", f"{KEY},"),
        ("DINGO_RECONNECT", "linear"),
    ],
)
def test_a_wrong_variable_is_named(variable, text):
    assert refusal(from_env, **{variable: text}).startswith(f"{variable} must be ")


def test_an_unknown_variable_names_the_nearest():
    text = refusal(from_env, DINGO_BORKER="redis://user:hunter2@host")
    assert "'DINGO_BORKER'" in text and "'DINGO_BROKER'" in text


def test_an_unknown_variable_is_shown_without_its_value():
    assert "hunter2" not in refusal(from_env, DINGO_BORKER="hunter2")


def test_a_wrong_broker_of_the_environment_is_masked():
    assert "hunter2" not in refusal(from_env, DINGO_BROKER="user:hunter2@host")


def test_wrong_keys_of_the_environment_are_masked():
    assert "hunter2" not in refusal(from_env, DINGO_SIGNING_KEYS="hunter2")


def test_a_broken_relation_says_that_the_environment_did_it():
    assert "DINGO_*" in refusal(from_env, DINGO_ACCEPT_PICKLE="yes")


def test_variables_without_the_prefix_are_nobodys_business():
    assert from_env(PATH="/bin", WORKERS="4") == Config()


def test_another_prefix():
    assert Config.from_env("SHOP_", {"SHOP_WORKERS": "4", "DINGO_WORKERS": "5"}).workers == 4


def test_the_environment_of_the_process_is_the_default(monkeypatch):
    monkeypatch.setenv("DINGO_WORKERS", "4")
    assert Config.from_env().workers == 4


@pytest.mark.parametrize(
    "variable",
    [
        "DINGO_SERVICE_HOST",
        "DINGO_WEB_SERVICE_PORT_HTTP",
        "DINGO_PORT",
        "DINGO_PORT_80_TCP",
        "DINGO_PORT_80_TCP_ADDR",
    ],
)
def test_what_kubernetes_sets_for_a_service_called_dingo_is_passed_over(variable):
    assert from_env(**{variable: "tcp://10.0.0.1:80"}) == Config()


# --- repr ---------------------------------------------------------------------------------------------


def test_repr_of_the_defaults_shows_nothing():
    assert repr(Config()) == "Config()"


def test_repr_shows_what_differs():
    assert repr(Config(queue="slow", max_pending=5)) == "Config(max_pending=5, queue='slow')"


def test_repr_masks_passwords():
    assert repr(Config(broker="redis://user:hunter2@host")) == "Config(broker='redis://user:***@host')"


def test_repr_masks_signing_keys():
    assert repr(Config(signing_keys=(KEY, OTHER_KEY))) == "Config(signing_keys=('***', '***'))"


def test_str_masks_too():
    assert "hunter2" not in str(Config(broker="redis://user:hunter2@host"))


def test_repr_does_not_show_the_file(path):
    assert repr(Config.from_yaml(written(path, "queue: a"), watch=True)) == "Config(queue='a')"


# --- the module ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", ["yaml", "watchfiles", "kombu"])
def test_importing_config_does_not_import(module):
    code = f"import sys, dingo.config; sys.exit({module!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
