"""Channel: threads and loops, one reader or many, and the end."""

import asyncio
import concurrent.futures
import threading

import pytest

from dingo import Channel, ChannelClosed


def in_thread(fn, *args):
    future = concurrent.futures.Future()

    def run():
        try:
            future.set_result(fn(*args))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def wait_for_readers(channel, count):
    """Wait until so many readers wait at the channel."""
    for _ in range(10**6):
        with channel._lock:
            if sum(bell.readers for bell in channel._bells.values()) >= count:
                return
    raise AssertionError("the readers never came")


def test_items_come_in_the_order_they_were_put():
    channel = Channel()
    for number in range(5):
        channel.put(number)
    channel.close()
    assert list(channel) == [0, 1, 2, 3, 4]


def test_get_times_out():
    with pytest.raises(TimeoutError):
        Channel().get(timeout=0.01)


def test_get_with_no_time_takes_what_is_there_and_else_times_out():
    channel = Channel()
    channel.put(1)
    assert channel.get(timeout=0) == 1
    with pytest.raises(TimeoutError):
        channel.get(timeout=0)


def test_a_closed_channel_gives_what_it_holds_and_then_ends():
    channel = Channel()
    channel.put(1)
    channel.close()
    channel.close()
    assert channel.get(0) == 1
    for _ in range(2):
        with pytest.raises(ChannelClosed):
            channel.get(1)


def test_put_after_close_is_dropped():
    channel = Channel()
    channel.close()
    assert not channel.put(1)
    assert list(channel) == []


def test_a_full_channel_drops_the_newest_and_counts():
    channel = Channel(maxsize=2)
    assert [channel.put(number) for number in range(5)] == [True, True, False, False, False]
    assert channel.dropped == 3
    assert channel.full
    assert channel.get(0) == 0
    assert channel.put(9)


def test_a_put_wakes_a_waiting_thread():
    channel = Channel()
    reader = in_thread(channel.get)
    wait_for_readers(channel, 1)
    channel.put("news")
    assert reader.result(10) == "news"


def test_close_wakes_every_waiting_thread():
    channel = Channel()
    readers = [in_thread(list, channel) for _ in range(5)]
    wait_for_readers(channel, 5)
    channel.close()
    assert [reader.result(10) for reader in readers] == [[]] * 5


def test_a_put_wakes_a_waiting_coroutine():
    async def main():
        channel = Channel()
        reader = asyncio.create_task(channel.aget())
        await asyncio.sleep(0)
        await asyncio.to_thread(wait_for_readers, channel, 1)
        in_thread(channel.put, "news")
        return await asyncio.wait_for(reader, 10)

    assert asyncio.run(main()) == "news"


def test_close_wakes_threads_and_coroutines_together():
    channel = Channel()

    async def read():
        return [item async for item in channel]

    async def main():
        tasks = [asyncio.create_task(read()) for _ in range(3)]
        threads = [in_thread(list, channel) for _ in range(3)]
        await asyncio.to_thread(wait_for_readers, channel, 6)
        channel.close()
        return await asyncio.wait_for(asyncio.gather(*tasks), 10), [one.result(10) for one in threads]

    assert asyncio.run(main()) == ([[]] * 3, [[]] * 3)


def test_a_cancelled_reader_takes_nothing_with_it():
    async def main():
        channel = Channel()
        gone = asyncio.create_task(channel.aget())
        stays = asyncio.create_task(channel.aget())
        await asyncio.to_thread(wait_for_readers, channel, 2)
        gone.cancel()
        channel.put("news")
        assert await asyncio.wait_for(stays, 10) == "news"
        with pytest.raises(asyncio.CancelledError):
            await gone

    asyncio.run(main())


def test_one_channel_can_be_read_on_one_loop_after_another():
    channel = Channel()

    async def read_one():
        in_thread(lambda: (wait_for_readers(channel, 1), channel.put("news")))
        return await asyncio.wait_for(channel.aget(), 10)

    assert asyncio.run(read_one()) == "news"
    assert asyncio.run(read_one()) == "news"


def test_a_loop_closed_under_a_waiting_reader_does_not_keep_threads_from_their_items():
    channel = Channel()
    loop = asyncio.new_event_loop()
    task = loop.create_task(channel.aget())
    loop.run_until_complete(asyncio.sleep(0))
    reader = in_thread(channel.get)
    wait_for_readers(channel, 2)
    task.cancel()
    loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
    loop.close()
    channel.put("news")
    assert reader.result(10) == "news"


@pytest.mark.filterwarnings("ignore")  # the loop is closed with a task in it: that is the point
def test_a_loop_closed_with_its_reader_still_waiting_harms_nobody():
    channel = Channel()
    loop = asyncio.new_event_loop()
    task = loop.create_task(channel.aget())
    loop.run_until_complete(asyncio.sleep(0))
    loop.run_until_complete(asyncio.sleep(0))
    reader = in_thread(channel.get)
    wait_for_readers(channel, 2)
    loop.close()
    channel.put("news")
    channel.put("more")
    assert reader.result(10) == "news"
    channel.close()
    with pytest.raises(ChannelClosed):
        [channel.get(1) for _ in range(3)]
    task._log_destroy_pending = False


@pytest.mark.parametrize("writers", [1, 3])
def test_no_item_and_no_wake_up_is_lost_among_many_readers(writers):
    channel, each = Channel(), 2000

    def write(number):
        for item in range(each):
            channel.put((number, item))

    async def read_on_loop():
        async def read():
            return [item async for item in channel]

        return [item for items in await asyncio.gather(*(read() for _ in range(3))) for item in items]

    readers = [in_thread(list, channel) for _ in range(3)] + [in_thread(asyncio.run, read_on_loop())]
    for writer in [in_thread(write, number) for number in range(writers)]:
        writer.result(20)
    channel.close()
    got = [item for reader in readers for item in reader.result(20)]
    assert sorted(got) == [(number, item) for number in range(writers) for item in range(each)]


def test_each_reader_sees_items_in_order():
    channel = Channel()
    readers = [in_thread(list, channel) for _ in range(3)]
    for number in range(3000):
        channel.put(number)
    channel.close()
    for reader in readers:
        got = reader.result(10)
        assert got == sorted(got)


def test_an_empty_channel_is_true():
    assert Channel()
