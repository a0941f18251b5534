"""What the tests of the configuration share: writing a file, and what is said of a wrong value."""

import pytest

from dingo.errors import BadConfig

KEY = "first-signing-key-of-enough-bytes"
OTHER_KEY = "other-signing-key-of-enough-bytes"


def written(path, text):
    path.write_text(text)
    return path


def refusal(fn, *args, **kwargs):
    with pytest.raises(BadConfig) as caught:
        fn(*args, **kwargs)
    return str(caught.value)
