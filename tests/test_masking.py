"""Masking: what holds a secret is blanked, what holds none is left."""

import pytest

from dingo.masking import mask_url


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
