"""Config: defaults, refusals, the environment, YAML, watching a file, and masking."""

import ast
import dataclasses
import inspect
import itertools
import logging
import os
import subprocess
import sys
import threading

import pytest

from dingo.config import Config, ConfigFile, Reconnect, mask_url
from dingo.errors import BadConfig

KEY = "first-signing-key-of-enough-bytes"
OTHER_KEY = "other-signing-key-of-enough-bytes"
WAIT = 10.0  # how long a fact may take before the test gives up on it


@pytest.fixture
def path(tmp_path):
    return tmp_path / "dingo.yaml"


def written(path, text):
    path.write_text(text)
    return path


def renamed_over(path, text):
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)


def refusal(fn, *args, **kwargs):
    with pytest.raises(BadConfig) as caught:
        fn(*args, **kwargs)
    return str(caught.value)


# --- defaults and the constructor ---------------------------------------------------------------------


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
    from dingo.config import _kinds

    assert list(_kinds(Config)) == [f.name for f in dataclasses.fields(Config) if f.init]


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


# --- reconnect ----------------------------------------------------------------------------------------


def test_reconnect_takes_the_name_of_a_policy():
    assert Config(reconnect="fibonacci").reconnect == Reconnect("fibonacci")


def test_reconnect_takes_a_mapping():
    assert Config(reconnect={"policy": "fixed", "tries": 3}).reconnect == Reconnect("fixed", tries=3)


def test_reconnect_takes_fields_in_text():
    made = Reconnect.of("fixed, tries=5, base=1.5, jitter=no")
    assert made == Reconnect("fixed", tries=5, base=1.5, jitter=False)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"policy": "linear"}, "policy"),
        ({"tries": 0}, "tries"),
        ({"tries": True}, "tries"),
        ({"base": 0}, "base"),
        ({"base": NAN}, "base"),
        ({"cap": -1}, "cap"),
        ({"base": 2, "cap": 1}, "cap must be >= base"),
        ({"jitter": 1}, "jitter"),
        ({"trys": 3}, "'tries'"),
    ],
)
def test_reconnect_refuses(fields, named):
    assert named in refusal(Reconnect, **fields)


@pytest.mark.parametrize("value", ["fixed,tris=3", {"tris": 3}])
def test_an_unknown_field_of_reconnect_names_the_nearest(value):
    assert "'tries'" in refusal(Config, reconnect=value)


def test_a_key_of_reconnect_that_is_no_text_is_refused():
    assert "unknown key 1" in refusal(Reconnect.of, {1: 2})


def test_a_field_given_twice_in_text_is_refused():
    assert "twice" in refusal(Reconnect.of, "fixed,tries=1,tries=2")


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


# --- YAML ---------------------------------------------------------------------------------------------


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
        pytest.param("[" * 5000, "nested too deeply", id="deep"),
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


# --- watching -----------------------------------------------------------------------------------------


class Watched:
    """A ConfigFile whose news are kept."""

    def __init__(self, path):
        self.file = ConfigFile(path)
        self.news, self.errors = [], []
        self.file.subscribe(self.news.append)
        self.file.on_error(self.errors.append)


@pytest.fixture
def watched(path):
    return Watched(written(path, "workers: 1"))


def test_a_config_read_once_has_no_source(path):
    assert Config.from_yaml(written(path, "workers: 1")).source is None


def test_a_watched_config_has_its_values(path):
    assert Config.from_yaml(written(path, "workers: 1"), watch=True).workers == 1


def test_a_watched_config_equals_one_that_is_not(path):
    written(path, "workers: 1")
    assert Config.from_yaml(path, watch=True) == Config.from_yaml(path)


def test_a_watched_config_leads_to_the_newest(path):
    config = Config.from_yaml(written(path, "workers: 1"), watch=True)
    written(path, "workers: 22")
    config.source.poll()
    assert config.source.current.workers == 22


def test_reading_with_watch_starts_no_thread(path):
    Config.from_yaml(written(path, "workers: 1"), watch=True)
    assert polling_threads() == []


def test_a_bad_file_cannot_be_watched(path):
    assert "'workers'" in refusal(ConfigFile, written(path, "workerz: 1"))


def test_a_missing_file_cannot_be_watched(path):
    assert str(path) in refusal(ConfigFile, path)


def test_the_current_config_leads_back_to_its_file(watched):
    assert watched.file.current.source is watched.file


def test_polling_an_unchanged_file_is_false(watched):
    assert watched.file.poll() is False


def test_polling_an_old_unchanged_file_does_not_read_it(path, monkeypatch):
    import dingo.config

    os.utime(written(path, "workers: 1"), (1, 1))
    file = ConfigFile(path)
    monkeypatch.setattr(dingo.config, "_snapshot", lambda path: pytest.fail("read"))
    assert file.poll() is False


def test_polling_a_changed_file_is_true(watched, path):
    written(path, "workers: 22")
    assert watched.file.poll() is True


def test_polling_again_after_a_change_is_false(watched, path):
    written(path, "workers: 22")
    watched.file.poll()
    assert watched.file.poll() is False


def test_a_change_of_an_old_file_is_noticed(path):
    os.utime(written(path, "workers: 1"), (1, 1))
    file = ConfigFile(path)
    written(path, "workers: 2")
    assert file.poll() is True


def test_a_change_that_leaves_time_and_size_as_they_were_is_noticed_in_a_young_file(watched, path):
    status = path.stat()
    written(path, "workers: 2")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert watched.file.poll() is True


def test_a_replacement_by_rename_is_noticed(watched, path):
    renamed_over(path, "workers: 2")
    watched.file.poll()
    assert watched.file.current.workers == 2


def test_a_replacement_with_the_time_and_size_of_an_old_file_is_noticed(path):
    os.utime(written(path, "workers: 1"), (1, 1))
    file = ConfigFile(path)
    new = written(path.with_suffix(".new"), "workers: 2")
    os.utime(new, (1, 1))
    new.replace(path)
    assert file.poll() is True


def test_a_symlink_pointed_elsewhere_is_noticed(tmp_path):
    link = tmp_path / "link.yaml"
    link.symlink_to(written(tmp_path / "a.yaml", "workers: 1"))
    file = ConfigFile(link)
    new = tmp_path / "new"
    new.symlink_to(written(tmp_path / "b.yaml", "workers: 2"))
    new.replace(link)
    assert file.poll() is True


def test_a_touched_file_is_no_change(watched, path):
    os.utime(path, (1, 1))
    assert watched.file.poll() is False


def test_a_file_that_changes_while_it_is_read_is_read_again_later(watched, path, monkeypatch):
    import dingo.config

    written(path, "workers: 22")
    whole = dingo.config._snapshot
    with monkeypatch.context() as patch:
        patch.setattr(dingo.config, "_snapshot", lambda path: whole(path)._replace(data=b"work", whole=False))
        watched.file.poll()
    watched.file.poll()
    assert (watched.file.current.workers, watched.errors) == (22, [])


def test_a_relative_path_survives_a_change_of_directory(path, tmp_path, monkeypatch):
    written(path, "workers: 1")
    monkeypatch.chdir(tmp_path)
    file = ConfigFile(path.name)
    monkeypatch.chdir("/")
    written(path, "workers: 22")
    assert file.poll() is True


def test_a_subscriber_gets_the_new_config(watched, path):
    written(path, "workers: 22")
    watched.file.poll()
    assert watched.news == [Config(workers=22)]


def test_a_subscriber_sees_it_as_current(watched, path):
    seen = []
    watched.file.subscribe(lambda config: seen.append(watched.file.current is config))
    written(path, "workers: 22")
    watched.file.poll()
    assert seen == [True]


def test_a_subscription_can_be_ended(watched, path):
    news = []
    end = watched.file.subscribe(news.append)
    end()
    written(path, "workers: 22")
    watched.file.poll()
    assert news == []


def test_ending_a_subscription_twice_ends_no_other(watched, path):
    news = []
    end = watched.file.subscribe(news.append)
    watched.file.subscribe(news.append)
    end()
    end()
    written(path, "workers: 22")
    watched.file.poll()
    assert len(news) == 1


def test_a_subscriber_that_raises_leaves_the_others_alone(path, caplog):
    file = ConfigFile(written(path, "workers: 1"))
    news = []
    file.subscribe(lambda config: 1 / 0)
    file.subscribe(news.append)
    written(path, "workers: 22")
    file.poll()
    assert len(news) == 1


def test_a_subscriber_that_raises_is_logged(watched, path, caplog):
    watched.file.subscribe(lambda config: 1 / 0)
    written(path, "workers: 22")
    watched.file.poll()
    assert caplog.records[0].exc_info[0] is ZeroDivisionError


def test_a_subscriber_may_poll(watched, path):
    watched.file.subscribe(lambda config: watched.file.poll())
    written(path, "workers: 22")
    assert watched.file.poll() is True


def test_a_bad_file_keeps_the_old_values(watched, path):
    written(path, "workers: many")
    watched.file.poll()
    assert watched.file.current.workers == 1


def test_polling_a_bad_file_is_false(watched, path):
    written(path, "workers: many")
    assert watched.file.poll() is False


def test_a_bad_file_calls_the_error_subscribers(watched, path):
    written(path, "workers: many")
    watched.file.poll()
    assert [type(error) for error in watched.errors] == [BadConfig]


def test_a_bad_file_calls_no_other_subscribers(watched, path):
    written(path, "workers: many")
    watched.file.poll()
    assert watched.news == []


def test_a_bad_file_is_told_once(watched, path):
    written(path, "workers: many")
    watched.file.poll()
    watched.file.poll()
    assert len(watched.errors) == 1


def test_a_bad_file_nobody_asks_about_is_logged(path, caplog):
    file = ConfigFile(written(path, "workers: 1"))
    written(path, "workers: many")
    file.poll()
    assert [(r.levelno, str(path) in r.getMessage()) for r in caplog.records] == [(logging.WARNING, True)]


def test_an_error_subscription_can_be_ended(watched, path):
    errors = []
    watched.file.on_error(errors.append)()
    written(path, "workers: many")
    watched.file.poll()
    assert errors == []


def test_a_file_put_right_is_told_even_with_the_old_values(watched, path):
    written(path, "workers: many")
    watched.file.poll()
    written(path, "workers: 1")
    watched.file.poll()
    assert watched.news == [Config(workers=1)]


def test_a_file_that_is_gone_keeps_the_old_values(watched, path):
    path.unlink()
    watched.file.poll()
    assert watched.file.current.workers == 1


def test_a_file_that_is_gone_is_told_once(watched, path):
    path.unlink()
    watched.file.poll()
    watched.file.poll()
    assert ["No such file" in str(error) for error in watched.errors] == [True]


def test_a_file_that_comes_back_is_told(watched, path):
    path.unlink()
    watched.file.poll()
    written(path, "workers: 1")
    assert watched.file.poll() is True


@pytest.fixture
def running(watched):
    watched.file.start(0.001)
    yield watched.file
    watched.file.stop()


def polling_threads():
    return [thread for thread in threading.enumerate() if thread.name == "dingo-config"]


def test_a_started_file_is_read_when_it_changes(running, path):
    changed = threading.Event()
    running.subscribe(lambda config: changed.set())
    renamed_over(path, "workers: 22")
    assert changed.wait(WAIT)


def test_a_started_file_survives_a_bad_state(running, path):
    bad, good = threading.Event(), threading.Event()
    running.on_error(lambda error: bad.set())
    running.subscribe(lambda config: good.set())
    renamed_over(path, "workers: many")
    bad.wait(WAIT)
    renamed_over(path, "workers: 22")
    assert good.wait(WAIT)


def test_a_started_file_survives_a_poll_that_fails(running, path, monkeypatch, caplog):
    import dingo.config

    failed, changed = threading.Event(), threading.Event()

    def fail(path):
        failed.set()
        raise MemoryError

    running.subscribe(lambda config: changed.set())
    with monkeypatch.context() as patch:
        patch.setattr(dingo.config, "_snapshot", fail)
        renamed_over(path, "workers: 22")
        assert failed.wait(WAIT)
    assert changed.wait(WAIT)


def test_starting_twice_makes_one_thread(running):
    running.start(0.001)
    assert len(polling_threads()) == 1


def test_the_thread_is_a_daemon(running):
    assert [thread.daemon for thread in polling_threads()] == [True]


def test_stopping_ends_the_thread(running):
    running.stop()
    assert polling_threads() == []


def test_stopping_twice_is_harmless(running):
    running.stop()
    running.stop()


def test_stopping_what_never_started_is_harmless(watched):
    watched.file.stop()


def test_a_stopped_file_can_be_started_again(running, path):
    changed = threading.Event()
    running.stop()
    running.subscribe(lambda config: changed.set())
    running.start(0.001)
    renamed_over(path, "workers: 22")
    assert changed.wait(WAIT)


def test_a_subscriber_on_the_thread_may_stop_it(running, path):
    stopped = threading.Event()

    def stop(config):
        running.stop()
        stopped.set()

    running.subscribe(stop)
    renamed_over(path, "workers: 22")
    assert stopped.wait(WAIT)


def test_a_subscriber_of_another_poll_may_stop_the_thread(watched, path):
    watched.file.subscribe(lambda config: watched.file.start(0.001))
    watched.file.subscribe(lambda config: watched.file.stop())
    written(path, "workers: 22")
    watched.file.poll()
    assert polling_threads() == []


@pytest.mark.parametrize("interval", [0, -1, NAN, True, "1"])
def test_a_wrong_interval_is_refused(watched, interval):
    assert refusal(watched.file.start, interval).startswith("interval_seconds must be ")


# --- repr and masking ---------------------------------------------------------------------------------


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


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("redis://user:pw@host", "redis://user:***@host"),
        ("redis://:pw@host:6379/0", "redis://:***@host:6379/0"),
        ("REDIS://user:pw@host", "REDIS://user:***@host"),
        ("redis://u:p@ss/w#o?rd@host/0", "redis://u:***@host/0"),
        ("redis://u:a://b@host", "redis://u:***@host"),
        ("redis://u:a b\nc@host", "redis://u:***@host"),
        ("postgresql://user@server:pw@host/db", "postgresql://user@server:***@host/db"),
        ("amqp://a:b@h1;amqp://c:d@h2", "amqp://a:***@h1;amqp://c:***@h2"),
        ("amqp://h1;amqp://c:d@h2", "amqp://h1;amqp://c:***@h2"),
        ("user:pw@host", "user:***@host"),
        ("cannot reach redis://u:pw@h:1: refused", "cannot reach redis://u:***@h:1: refused"),
        ("redis://h?password=pw&db=1", "redis://h?password=***&db=1"),
        ("sqs://h?Session_Token=pw", "sqs://h?Session_Token=***"),
        ("db://h?token=a@b#c;d", "db://h?token=***"),
    ],
)
def test_mask_url_masks(text, masked):
    assert mask_url(text) == masked


@pytest.mark.parametrize(
    "text",
    [
        "redis://host:6379/0",
        "redis://[::1]:6379/0",
        "amqp://user@host",
        "sqlite:///a b.db",
        "memory://",
        "local",
    ],
)
def test_mask_url_leaves_what_holds_no_secret(text):
    assert mask_url(text) == text


@pytest.mark.parametrize("junk", ["", "@", ":", "://", "://:@", "[", "\x00", "\udc80", "%", None, b"x"])
def test_mask_url_raises_nothing_on_junk(junk):
    assert isinstance(mask_url(junk), str)


# --- the module ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", ["yaml", "watchfiles", "kombu"])
def test_importing_config_does_not_import(module):
    code = f"import sys, dingo.config; sys.exit({module!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
