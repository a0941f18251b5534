"""The ids and the frames of packed calls."""

import pytest

from dingo.errors import BadMessage
from dingo.message import packed

BASE = "0123456789abcdef0123456789abcdef"


def test_a_member_is_found_by_its_id():
    pack = packed.pack_id(BASE, 3)
    assert packed.size_of(pack) == 3
    assert packed.member_of(packed.member_id(pack, 2)) == (pack, 2)


@pytest.mark.parametrize("call_id", ["", "1", BASE, f"{BASE}p3", f"{BASE}p3i3", f"{BASE}p3i", f"x{BASE}p3i0", "p3i0"])
def test_other_ids_are_of_no_pack(call_id):
    assert packed.member_of(call_id) is None


@pytest.mark.parametrize("call_id", ["", "1", BASE, f"{BASE}p3i0", f"{BASE}p", f"{BASE}px"])
def test_other_ids_are_no_packs(call_id):
    assert packed.size_of(call_id) == 0


def test_the_arguments_of_a_member_are_those_of_a_single_call():
    assert packed.member_arguments(b'[[1,"\xc3\xa4"],[2.5,null]]') == [b'[[1,"\xc3\xa4"]]', b"[[2.5,null]]"]


@pytest.mark.parametrize("body", [b"", b"[1]", b"{}", b"[[1],2]", b"\xff", b"[" * 100_000])
def test_a_pack_without_arguments_is_refused(body):
    with pytest.raises(BadMessage, match="pack of calls"):
        packed.member_arguments(body)


def test_the_report_of_a_member_is_that_of_a_single_call():
    assert packed.member_report(b"[6,[5,9],null,null,1,1.5,0.25]", 1) == b"[6,9,null,null,1,1.5,0.25]"
    refused = b'[7,null,["BAD_MESSAGE","","no",""],null,0,1.5]'
    assert packed.member_report(refused, 1) == refused


@pytest.mark.parametrize("body", [b"", b"[6,5,null]", b"[6,[1],null,null,1,1.5]", b"6", b"[" * 100_000])
def test_a_report_without_a_value_for_it_is_refused(body):
    with pytest.raises(BadMessage, match="report of a pack"):
        packed.member_report(body, 1)
