"""Result stores: what each does when a server is not as it should be."""

import itertools
import os
import sys
import threading
import time

import pytest
from databases import Memcached

import dingo
from dingo import kombu
from dingo.errors import BadConfig, BrokerUnavailable
from dingo.message.frame import unpack
from dingo.store import lookout, mail, memcache, sql
from dingo.testing.suites import PATIENCE, report

KINDS = ["postgresql", "mysql", "memcached"]
SQL = ["postgresql", "mysql"]


@pytest.fixture
def server(request):
    """A server of the wanted kind, which all tests share, emptied."""
    server = request.getfixturevalue(request.param)
    server.empty()
    return server


@pytest.fixture
def opened():
    """Open a Reporter and a Store; their events are in `opened.events`."""
    parts = []

    def make(url, what="both"):
        made = [kombu.reporter(url)] * (what != "store") + [kombu.store(url)] * (what != "reporter")
        for part in made:
            part.open(lambda *event: make.events.append(event))
            parts.append(part)
        return made if what == "both" else made[0]

    make.events = []
    yield make
    for part in parts:
        part.close()


def frames(store, count, reply="me"):
    found, until = [], time.monotonic() + PATIENCE
    while len(found) < count and time.monotonic() < until:
        for pack in store.collect(reply, 1.0):
            found += unpack(pack)
    return found


# -- URLs --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("postgresql+psycopg2://u:hunter2@h/d", r"postgresql\+psycopg"),
        ("postgresql://u:hunter2@h:port/d", "no URL of a database"),
        ("mysql://u:hunter2@h", "which database"),
        ("mysql+mysqldb://u:hunter2@h/d", r"mysql\+pymysql"),
        ("memcache://", "memcache://host:11211"),
        ("memcache://one,two", "several servers"),
        ("memcache://u:hunter2@h", "passwords are not supported"),
        ("mongodb://u:hunter2@h:port/d", "no URL of MongoDB"),
        ("mongodb://", "no URL of MongoDB"),
    ],
)
def test_a_bad_url_raises_at_once_and_names_no_password(url, says):
    with pytest.raises(BadConfig, match=says) as caught:
        dingo.App("memory://urls", backend=url)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("url", ["postgresql://u:hunter2@h/d", "mysql://u:hunter2@h/d", "memcache://h"])
def test_a_result_store_is_no_broker(url):
    with pytest.raises(BadConfig, match="backend of a broker") as caught:
        dingo.App(url)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "package", "extra"),
    [("postgresql://h/d", "psycopg", "postgresql"), ("mysql://h/d", "pymysql", "mysql"),
     ("memcache://h", "pymemcache.client.base", "memcache"), ("mongodb://h/d", "pymongo", "mongodb")],
)  # fmt: skip
def test_a_package_that_is_missing_is_named_with_its_extra(monkeypatch, url, package, extra):
    monkeypatch.delitem(sys.modules, f"dingo.store.{extra}", raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(BadConfig, match=rf"dingo-tasks\[{extra}\]"):
        dingo.App("memory://urls", backend=url)


@pytest.mark.parametrize(
    "url", ["postgresql://u:hunter2@{}/d", "mysql://u:hunter2@{}/d", "memcache://{}", "mongodb://u:hunter2@{}/d"]
)
def test_making_one_opens_nothing_and_opening_it_tells_that_nobody_is_there(url):
    from servers import free_port

    config = dingo.Config(connect_timeout_seconds=1.0)
    store = kombu.store(url.format(f"127.0.0.1:{free_port()}"), config)
    with pytest.raises(BrokerUnavailable) as caught:
        store.open(lambda *_: None)
    assert url.partition("://")[0] in str(caught.value)
    assert "hunter2" not in str(caught.value)
    store.close()


# -- servers that come and go -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("server", KINDS, indirect=True)
def test_after_a_restart_of_the_server_everything_goes_on(server, opened):
    reporter, store = opened(server.url)
    reporter.report([report("before")])
    assert frames(store, 1) == [b"report of before"]
    server.kill()
    try:
        for ask in (lambda: reporter.report([report("lost")]), lambda: store.collect("me", 1.0),
                    lambda: store.fetch("before", None)):  # fmt: skip
            with pytest.raises(BrokerUnavailable, match=str(server.port)):
                ask()
    finally:
        server.start()
    reporter.report([report("after")])
    assert frames(store, 1) == [b"report of after"]
    assert store.fetch("after", "add") is not None
    assert (store.fetch("before", "add") is not None) is not isinstance(server, Memcached)


@pytest.mark.parametrize("server", SQL, indirect=True)
def test_what_was_handed_out_comes_again_only_if_it_was_not(server, opened):
    """The connection breaks between handing out and deleting: by then the caller has it."""
    reporter, store = opened(server.url)
    reporter.report([report("1")])
    assert frames(store, 1) == [b"report of 1"]
    store._line.drop()
    reporter.report([report("2")])
    assert frames(store, 1) == [b"report of 2"]
    assert store.collect("me", 0.0) == []
    assert server.do("SELECT count(*) FROM dingo_reports")[0][0] == 0


@pytest.mark.parametrize("server", KINDS, indirect=True)
def test_the_child_of_a_fork_has_connections_of_its_own(server, opened):
    reporter, store = opened(server.url)
    reporter.report([report("parent")])
    assert store.fetch("parent", None) is not None
    child = os.fork()
    if child == 0:
        try:
            reporter.open(lambda *_: None)
            store.open(lambda *_: None)
            reporter.report([report("child", reply="child")])
            os._exit(0 if frames(store, 1, "child") == [b"report of child"] else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert frames(store, 1) == [b"report of parent"]
    assert store.fetch("child", None) is not None
    reporter.report([report("again")])
    assert frames(store, 1) == [b"report of again"]


# -- tables ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("server", SQL, indirect=True)
def test_many_may_make_the_tables_at_once(server):
    server.drop()
    stores, wrong = [kombu.store(server.url) for _ in range(8)], []
    start = threading.Barrier(len(stores))

    def go(store):
        start.wait()
        try:
            store.open(lambda *_: None)
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=go, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for store in stores:
        store.close()
    assert wrong == []
    assert server.do("SELECT value FROM dingo_meta")[0][0] == str(sql.SCHEMA_VERSION)


@pytest.mark.parametrize("server", SQL, indirect=True)
def test_tables_of_a_newer_version_are_refused(server, opened):
    opened(server.url)
    server.do("UPDATE dingo_meta SET value = '99'")
    with pytest.raises(BadConfig, match="schema 99"):
        kombu.store(server.url).open(lambda *_: None)
    server.drop()


@pytest.mark.parametrize("server", SQL, indirect=True)
def test_what_was_kept_long_enough_is_thrown_out_by_who_reports(server, opened, monkeypatch):
    monkeypatch.setattr(sql, "SWEEP_MOST", 10)
    reporter, store = opened(server.url)
    reporter.report([report(str(number)) for number in range(25)])
    server.do("UPDATE dingo_results SET until = 1", "UPDATE dingo_reports SET until = 1")
    assert store.calls("ended", None) == []
    reporter._sweep_at = 0.0
    for number in range(3):  # as long as there is more, with each batch
        reporter.report([report(f"new-{number}")])
    assert server.do("SELECT count(*) FROM dingo_results")[0][0] == 3
    assert reporter._sweep_at > time.monotonic()
    assert opened.events == []


@pytest.mark.parametrize("server", SQL, indirect=True)
def test_an_id_may_be_used_again_when_its_result_is_no_longer_kept(server, opened):
    reporter, store = opened(server.url)
    reporter.report([report(frame=b"old")])
    server.do("UPDATE dingo_results SET until = 1")
    reporter.report([report(frame=b"new")])
    assert store.fetch("1", "add").frame == b"new"


@pytest.mark.parametrize("server", SQL, indirect=True)
def test_what_has_ended_is_listed_oldest_first(server, opened):
    reporter, store = opened(server.url)
    for id in "bac":
        reporter.report([report(id)])
    assert [one.id for one in store.calls("ended", None)] == ["b", "a", "c"]


# -- how reports are waited for ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("server", ["postgresql"], indirect=True)
def test_postgresql_tells_of_a_report_so_that_nobody_looks_again_and_again(server, opened):
    reporter, store = opened(server.url)
    looks, take = [], store._take
    store._take = lambda *args: looks.append(1) or take(*args)
    found = []
    waiting = threading.Thread(target=lambda: found.extend(store.collect("me", PATIENCE * 3)))
    waiting.start()
    until = time.monotonic() + PATIENCE
    while not looks and time.monotonic() < until:
        time.sleep(0.01)
    reporter.report([report(reply="you")])  # of which it hears nothing
    reporter.report([report()])
    waiting.join(PATIENCE)
    assert len(found) == 1
    assert len(looks) <= 3


def test_a_lookout_looks_the_more_rarely_the_longer_nothing_came(monkeypatch):
    now, pauses = [0.0], []
    monkeypatch.setattr(lookout, "monotonic", lambda: now[0])
    one = lookout.Lookout()

    def wait(seconds):
        pauses.append(seconds)
        now[0] += seconds
        return False

    monkeypatch.setattr(one._told, "wait", wait)
    assert one.watch(list, 60.0) == []
    assert pauses[0] == pytest.approx(lookout.SHORTEST)
    assert max(pauses) == pytest.approx(lookout.LONGEST)
    assert all(after > before - 1e-6 for before, after in itertools.pairwise(pauses[:-1]))
    assert len(pauses) < 400


def test_a_lookout_that_is_told_to_expect_something_looks_soon(monkeypatch):
    now, pauses = [1000.0], []
    monkeypatch.setattr(lookout, "monotonic", lambda: now[0])
    one = lookout.Lookout()
    one._since = 0.0

    def wait(seconds):
        pauses.append(seconds)
        if len(pauses) == 1:
            one.expect()
            return True
        now[0] += seconds
        return False

    monkeypatch.setattr(one._told, "wait", wait)
    looks = iter([[], [b"mail"]])
    assert one.watch(lambda: next(looks), 60.0) == [b"mail"]
    assert pauses == [pytest.approx(lookout.LONGEST), pytest.approx(lookout.SHORTEST)]


def test_a_call_has_a_store_that_looks_expect_a_report(mysql):
    """However long nothing came, so that the next call does not wait for a look of the idle."""
    app = dingo.App("memory://expects", backend=mysql.url)
    app.register("add", lambda a, b: a + b)
    with app:
        app.start_worker()
        assert app.call("add", 1, 1).result(PATIENCE) == 2
        one = app._session.caller._store.component._lookout
        one._since = 0.0  # as if it had waited for ages
        assert app.call("add", 1, 2).result(PATIENCE) == 3
        assert one._since > 0.0


# -- limits ------------------------------------------------------------------------------------------------------------


def test_a_report_that_memcached_cannot_take_ends_the_call_with_a_clear_word(memcached):
    app = dingo.App("memory://large", backend=memcached.url, config=dingo.Config(max_message_bytes=1 << 24))
    app.register("make", lambda size: "x" * size)
    with app:
        app.start_worker()
        failure = app.call("make", 2_000_000).exception(PATIENCE).failure
        assert failure.code == "BAD_RETURN"
        assert "this backend takes at most 1040384: return a reference" in failure.message
        assert app.call("make", 1_000_000).result(PATIENCE) == "x" * 1_000_000


@pytest.mark.parametrize("server", ["memcached"], indirect=True)
def test_what_memcached_has_thrown_out_is_told(server, opened):
    reporter, store = opened(server.url)
    for id in "123":
        reporter.report([report(id)])
    references = memcache._references(store._server.client.get(memcache._key("m", mail.key_of("me"))))
    assert len(references) == 3
    store._server.client.delete(memcache._key("i", references[1]))
    assert frames(store, 2) == [b"report of 1", b"report of 3"]
    assert [event[1] for event in opened.events] == ["report.lost"]


@pytest.mark.parametrize("server", ["memcached"], indirect=True)
def test_a_mailbox_that_nobody_empties_stops_no_worker(server, opened):
    reporter, store = opened(server.url)
    mailbox = memcache._key("m", mail.key_of("gone"))
    store._server.client.set(mailbox, b"x" * ((1 << 20) - 200))
    for id in range(20):
        reporter.report([report(str(id), reply="gone")])
    assert {event[1] for event in opened.events} == {"mailbox.full"}
    assert store.fetch("19", "add") is not None


def test_packs_hold_a_batch_by_address_in_order_and_no_more_than_they_may():
    batch = [report(str(n), reply="ab"[n % 2], frame=b"%04d" % n) for n in range(100)] + [report(reply="")]
    packs = mail.packs(batch, 80)
    assert all(len(pack) <= 80 for _, pack in packs)
    for reply in "ab":
        got = [frame for to, pack in packs if to == reply for frame in unpack(pack)]
        assert got == [one.frame for one in batch if one.reply == reply]
    assert [len(pack) for _, pack in mail.packs([report(frame=b"x" * 500), report(frame=b"y")], 80)] == [504, 5]
