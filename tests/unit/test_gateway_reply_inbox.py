"""The reply inbox: one outcome per waiter, places that come free, waits that end."""

import pytest

from gateway.reply_inbox import ReplyInbox
from shared.contracts.replies import Reply, ReplyStatus

pytestmark = pytest.mark.asyncio

REPLY = Reply(ReplyStatus.TERMINATED, b"", b"")


def an_inbox(capacity: int = 10) -> ReplyInbox:
    return ReplyInbox(capacity=capacity, budget_seconds=5)


async def test_a_reply_reaches_its_waiter_and_no_other() -> None:
    inbox = an_inbox()
    first, second = (inbox.expect(name, partition=3, now=0) for name in (b"first", b"second"))
    assert inbox.resolve(b"second", REPLY) is second
    assert await second.reply is REPLY
    assert not first.reply.done()
    assert len(inbox) == 1


async def test_a_second_or_unknown_reply_finds_nobody() -> None:
    inbox = an_inbox()
    inbox.expect(b"known", partition=0, now=0)
    assert inbox.resolve(b"known", REPLY) is not None
    assert inbox.resolve(b"known", REPLY) is None
    assert inbox.resolve(b"unknown", REPLY) is None


async def test_waits_end_with_the_budget_oldest_first() -> None:
    inbox = an_inbox()
    waiters = [inbox.expect(bytes([number]), partition=0, now=number) for number in range(4)]
    assert list(inbox.expire(4.9)) == []
    assert list(inbox.expire(6.0)) == waiters[:2]
    assert [await waiter.reply for waiter in waiters[:2]] == [None, None]
    assert not waiters[2].reply.done()
    assert inbox.resolve(bytes([0]), REPLY) is None


async def test_an_answered_waiter_does_not_keep_later_ones_from_expiring() -> None:
    inbox = an_inbox()
    inbox.expect(b"answered", partition=0, now=0)
    late = inbox.expect(b"late", partition=0, now=1)
    inbox.resolve(b"answered", REPLY)
    assert list(inbox.expire(6)) == [late]


async def test_a_place_is_free_as_soon_as_its_caller_leaves() -> None:
    inbox = an_inbox(capacity=1)
    waiter = inbox.expect(b"only", partition=0, now=0)
    assert inbox.is_full
    inbox.forget(waiter)
    inbox.forget(waiter)
    assert not inbox.is_full


async def test_a_caller_who_left_in_the_same_moment_does_not_break_the_reply() -> None:
    inbox = an_inbox()
    waiter = inbox.expect(b"gone", partition=0, now=0)
    waiter.reply.cancel()
    assert inbox.resolve(b"gone", REPLY) is waiter
