"""A signed frame is taken only as exactly what a holder of a key has signed."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dingo.errors import BadMessage
from dingo.message.frame import SEAL_BYTES, NotForUs, decode, encode
from dingo.message.signing import REPORT, TASK, Seal, unsealed

OLD, NEW = "old key of thirty-two bytes or more", "new key of thirty-two bytes or more"
FRAME = encode({"v": 1, "id": "1", "n": "add"}, b"[[2,3]]")
seal = Seal([OLD], TASK)
# What stands before FRAME, made with openssl: 01, the key id, the signature.
KNOWN = "018d0d80cf7a2d0699fdceea0c92aedb2dcc68d0f0b77de2f36a0fde1e8384c64e7017b86e8a9a6037"


@given(frame=st.binary(max_size=300))
def test_what_was_signed_comes_back_as_it_was(frame):
    assert seal.open(seal.put(frame)) == frame == unsealed(seal.put(frame))


@settings(max_examples=300)
@given(frame=st.binary(max_size=100), data=st.data())
def test_any_flipped_bit_is_refused(frame, data):
    signed = bytearray(seal.put(frame))
    bit = data.draw(st.integers(0, len(signed) * 8 - 1))
    signed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(BadMessage):
        seal.open(bytes(signed))


@given(frame=st.binary(min_size=1, max_size=100), data=st.data())
def test_anything_cut_or_added_is_refused(frame, data):
    signed = seal.put(frame)
    cut = data.draw(st.integers(0, len(signed) - 1))
    for changed in (signed[:cut], signed[cut + 1 :], signed + frame):
        with pytest.raises(BadMessage):
            seal.open(changed)


@settings(max_examples=300)
@given(data=st.binary(max_size=100))
def test_any_other_bytes_are_refused(data):
    for one in (data, b"\x01" + data):
        with pytest.raises(BadMessage):
            seal.open(one)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (FRAME, "a task that is not signed, and here are signing_keys"),
        (Seal([NEW], TASK).put(FRAME), "a task signed with a key that is not here"),
        (Seal([OLD], REPORT).put(FRAME), "a task with a wrong signature"),
        (seal.put(FRAME) + b" ", "a task with a wrong signature"),
    ],
)
def test_a_refusal_says_why(data, why):
    with pytest.raises(BadMessage, match=why) as caught:
        seal.open(data)
    assert OLD not in str(caught.value)
    assert NEW not in str(caught.value)


def test_the_first_key_signs_and_every_key_verifies():
    both = Seal([NEW, OLD], TASK)
    assert both.open(seal.put(FRAME)) == both.open(both.put(FRAME)) == Seal([NEW], TASK).open(both.put(FRAME))
    with pytest.raises(BadMessage):
        seal.open(both.put(FRAME))


def test_an_answer_is_signed_with_the_key_of_what_it_answers():
    answers = Seal([NEW, OLD], REPORT)
    assert Seal([OLD], REPORT).open(answers.answer(FRAME, seal.put(FRAME))) == FRAME
    assert Seal([NEW], REPORT).open(answers.answer(FRAME, b"not signed")) == FRAME


def test_no_key_can_be_seen():
    shown = repr(Seal([NEW, OLD], TASK))
    assert shown.startswith("<Seal task | ")
    assert OLD not in shown
    assert NEW not in shown


def test_the_signature_is_hmac_sha_256_over_the_exact_bytes():
    assert seal.put(FRAME).hex() == KNOWN + FRAME.hex()


def test_without_keys_a_signed_message_is_left_to_others_and_its_header_can_be_read():
    with pytest.raises(NotForUs, match="no signing_keys") as caught:
        decode(seal.put(FRAME))
    assert caught.value.header == {"v": 1, "id": "1", "n": "add"}


@pytest.mark.parametrize("inside", [b"", b"{", b"\x01" * 100_000, b'{"v":1}\n'])
def test_without_keys_what_only_begins_as_a_signed_message_is_refused(inside):
    with pytest.raises(BadMessage) as caught:
        decode(b"\x01" * SEAL_BYTES + inside)
    assert not isinstance(caught.value, NotForUs)
