"""The ledger in Redis: places, unique calls and paused queues, beside the tasks; a script for each step.

    dingo:pace:NAME         what is remembered of a limit (see `dingo.bridge.ledger`)
    dingo:places:NAME       the places that are taken: "OWNER NUMBER", scored with since when
    dingo:turns:NAME        the calls that were told a moment to come: ids, scored with it
    dingo:line:NAME         the calls that wait for a place: ids, the best and oldest with the lowest score
    dingo:unique            keys of unique calls, scored with until when they are kept in any case
    dingo:unique:ids        which call has the key
    dingo:paused            queues

A place is its worker's as long as that renews its lease (`dingo:workers`), and a third of it longer: after an outage
all leases are over, and the living must renew theirs.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from dingo.bridge.ledger import BURST, HELD_SHARE, HORIZON, SOON, STEP_LEAST, STEP_MOST
from dingo.contracts import Wait
from dingo.kombu.redis.keys import number_text
from dingo.kombu.redis.scripts import Script

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dingo.contracts import Place, UniqueCall
    from dingo.kombu.redis.server import Server

_EXCHANGE = Script(
    f"""
local BURST, HORIZON, HELD_SHARE, SOON = {BURST}, {HORIZON}, {HELD_SHARE}, {SOON}
local STEP_LEAST, STEP_MOST = {STEP_LEAST}, {STEP_MOST}
"""
    """
-- ARGV: owner, lease, then three times a number and so many places: given back (name, number, most), waiting (name, id,
-- priority, most), wanted (name, id, number, most, rate). Returns for each of the last '', or in how many seconds to
-- ask again, after '=' where that is exact.
go_on_without_memory()
local owner, lease, time, at = ARGV[1], tonumber(ARGV[2]), clock(), 3
local FIELDS = {'next', 'first', 'again', 'line', 'held', 'interval'}
local paces, counts, living, limits = {}, {}, {}, {}

local function pace_of(name)
  local pace = paces[name]
  if not pace then
    pace = {}
    local kept = redis.call('HMGET', 'dingo:pace:' .. name, unpack(FIELDS))
    for index, field in ipairs(FIELDS) do pace[field] = tonumber(kept[index] or 0) end
    paces[name] = pace
  end
  return pace
end

local function lives(who)
  if living[who] == nil then
    local till = redis.call('ZSCORE', 'dingo:workers', who)
    living[who] = till and tonumber(till) + lease / 3 > time or false
  end
  return living[who]
end

local function places_of(name)
  if not counts[name] then
    local count = 0
    for _, place in ipairs(redis.call('ZRANGE', 'dingo:places:' .. name, 0, -1)) do
      if lives(string.match(place, '^%S+')) then
        count = count + 1
      else
        redis.call('ZREM', 'dingo:places:' .. name, place)
      end
    end
    counts[name] = count
  end
  return counts[name]
end

local function give_back(name, number)
  local place = owner .. ' ' .. number
  local since = redis.call('ZSCORE', 'dingo:places:' .. name, place)
  if not since then return end
  local pace, held = pace_of(name), math.max(0, time - since)
  pace.held = pace.held == 0 and held or pace.held * (1 - HELD_SHARE) + held * HELD_SHARE
  redis.call('ZREM', 'dingo:places:' .. name, place)
end

local function come_again(name, most)
  local pace = pace_of(name)
  if pace.line > time + HORIZON then return HORIZON end
  pace.line = math.max(pace.line, time) + math.min(STEP_MOST, math.max(STEP_LEAST, pace.held / most))
  return math.max(SOON, pace.line - time)
end

local function start(pace, rate)
  local interval = 1 / rate
  if interval ~= pace.interval then pace.interval, pace.first, pace.again = interval, time, time end
  pace.next = math.min(pace.next, time + interval)
  if time < pace.next then return false end
  local late = interval < BURST / 2 and BURST or math.min(BURST, interval / 4)
  pace.next = math.max(pace.next, time - late) + interval
  return true
end

local function turn(name, id, pace)
  local told = redis.call('ZSCORE', 'dingo:turns:' .. name, id)
  if told and tonumber(told) > time then return tonumber(told) - time end
  local last = told and 'again' or 'first'
  if pace[last] > time + HORIZON then return HORIZON end
  pace[last] = math.max(pace[last] + pace.interval, pace.next)
  redis.call('ZREMRANGEBYSCORE', 'dingo:turns:' .. name, '-inf', time - HORIZON)
  redis.call('ZADD', 'dingo:turns:' .. name, pace[last], id)
  redis.call('ZREM', 'dingo:line:' .. name, id)
  return math.max(0, pace[last] - time)
end

local function ask(name, id, number, most, rate)
  local place = owner .. ' ' .. number
  if most then
    if redis.call('ZSCORE', 'dingo:places:' .. name, place) then return '' end
    if places_of(name) >= most then return string.format('%.6f', come_again(name, most)) end
  end
  if rate then
    local pace = pace_of(name)
    if not start(pace, rate) then return string.format('=%.6f', turn(name, id, pace)) end
    redis.call('ZREM', 'dingo:turns:' .. name, id)
  end
  if most then
    redis.call('ZADD', 'dingo:places:' .. name, time, place)
    counts[name] = counts[name] + 1
    redis.call('ZREM', 'dingo:line:' .. name, id)
  end
  return ''
end

-- Moves one that waits for its time to the front of its queue. nil: it is no more; false: it does not wait so.
local function hasten(name, id)
  local known = what_of(id, name)
  if not known or string.byte(known) == 101 then return nil end
  local prefix = string.match(known, '^l(.*)$')
  if not prefix then return false end
  local one = member(id, name)
  local held = redis.call('HGET', prefix .. 'held', one)
  redis.call('ZREM', prefix .. 'later', one)
  redis.call('HDEL', prefix .. 'held', one)
  if not held then return nil end
  local priority, length = struct.unpack('>BB', held)
  put(false, prefix, 'again', priority, '', time, id, name, string.sub(held, 3 + length),
    string.sub(held, 3, 2 + length))
  ring(prefix)
  return true
end

local function fetch(name, count)
  for _, id in ipairs(redis.call('ZRANGE', 'dingo:line:' .. name, 0, count + 49)) do
    if count == 0 then return end
    local came = hasten(name, id)
    if came then count = count - 1 end
    if came == nil then redis.call('ZREM', 'dingo:line:' .. name, id) end
  end
end

at = at + 1
for _ = 1, tonumber(ARGV[at - 1]) do
  give_back(ARGV[at], ARGV[at + 1])
  limits[ARGV[at]] = tonumber(ARGV[at + 2])
  at = at + 3
end
local waiting = tonumber(ARGV[at])
at = at + 1
for index = 1, waiting do
  local name, id, priority = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
  redis.call('ZADD', 'dingo:line:' .. name, 'NX', (9 - priority) * 1e10 + time + index * 1e-5, id)
  limits[name] = tonumber(ARGV[at + 3])
  at = at + 4
end
local answers = {}
at = at + 1
for index = 1, tonumber(ARGV[at - 1]) do
  answers[index] = ask(ARGV[at], ARGV[at + 1], ARGV[at + 2], tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4]))
  at = at + 5
end
for name, most in pairs(limits) do
  local free = most - places_of(name)
  if free > 0 then fetch(name, free) end
end
for name, pace in pairs(paces) do
  for _, field in ipairs(FIELDS) do
    redis.call('HSET', 'dingo:pace:' .. name, field, string.format('%.17g', pace[field]))
  end
end
return answers
""",
)

_UNIQUE = """
local function key_of(name, key) return struct.pack('>I4', #name) .. name .. key end

local function name_of(one) return string.sub(one, 5, 4 + struct.unpack('>I4', one)) end

local function lives(id, name)
  local known = what_of(id, name)
  return known and string.byte(known) ~= 101
end
"""

_REGISTER = Script(
    _UNIQUE
    + """
-- ARGV: name, key, id, seconds. Returns the id of the call that has the key now.
local one, time = key_of(ARGV[1], ARGV[2]), clock()
local id = redis.call('HGET', 'dingo:unique:ids', one)
if id and (tonumber(redis.call('ZSCORE', 'dingo:unique', one) or 0) > time or lives(id, ARGV[1])) then return id end
redis.call('HSET', 'dingo:unique:ids', one, ARGV[3])
redis.call('ZADD', 'dingo:unique', time + ARGV[4], one)
return ARGV[3]
"""
)

_CONFIRM = Script(
    _UNIQUE
    + """
-- ARGV: seconds, then name, key, id of each
local till = clock() + ARGV[1]
for at = 2, #ARGV, 3 do
  local one = key_of(ARGV[at], ARGV[at + 1])
  if redis.call('HGET', 'dingo:unique:ids', one) == ARGV[at + 2] then redis.call('ZADD', 'dingo:unique', till, one) end
end
"""
)

_FREE = Script("""
-- ARGV: name, key, id of each
go_on_without_memory()
for at = 1, #ARGV, 3 do free_key(ARGV[at], ARGV[at + 1], ARGV[at + 2]) end
""")

_TEND = Script(
    _UNIQUE
    + """
-- ARGV: owner, lease. Returns the paused queues; looks at a few keys whose time is over, whether they are needed still.
go_on_without_memory()
local time = clock()
if ARGV[1] ~= '' then redis.call('ZADD', 'dingo:workers', time + ARGV[2], ARGV[1]) end
for _, one in ipairs(redis.call('ZRANGEBYSCORE', 'dingo:unique', '-inf', time, 'LIMIT', 0, 20)) do
  if lives(redis.call('HGET', 'dingo:unique:ids', one) or '', name_of(one)) then
    redis.call('ZADD', 'dingo:unique', time + 60, one)
  else
    redis.call('HDEL', 'dingo:unique:ids', one)
    redis.call('ZREM', 'dingo:unique', one)
  end
end
return redis.call('SMEMBERS', 'dingo:paused')
"""
)


class RedisLedger:
    """One component's ledger. Any thread may call it."""

    owner = ""
    """Whose places it writes down: set when the worker is opened."""

    def __init__(self, server: Server, lease_seconds: float = 0.0) -> None:
        self._server = server
        self._lease = lease_seconds
        self._lock = threading.Lock()

    def exchange(self, left: Sequence[Place], waiting: Sequence[Place], wanted: Sequence[Place]) -> list[Wait | None]:
        """Give places back, and ask for others."""
        arguments: list[Any] = [self.owner, self._lease, len(left)]
        for one in left:
            arguments += (one.name, one.number, number_text(one.max_concurrency))
        arguments.append(len(waiting))
        for one in waiting:
            arguments += (one.name, one.id, one.priority, number_text(one.max_concurrency))
        arguments.append(len(wanted))
        for one in wanted:
            arguments += (one.name, one.id, one.number, number_text(one.max_concurrency), number_text(one.rate))
        return [_answer(text) for text in self._server.run(_EXCHANGE, arguments)]

    def tend(self) -> set[str]:
        """Renew the lease; return the queues that are paused."""
        with self._lock:
            return {queue.decode() for queue in self._server.run(_TEND, [self.owner, self._lease])}

    def close(self) -> None:
        """Renew no lease any more."""
        with self._lock:
            self.owner = ""

    def register(self, call: UniqueCall, seconds: float) -> str:
        """Return the id of the call that has the key now."""
        id: bytes = self._server.run(_REGISTER, [call.name, call.key, call.id, seconds])
        return id.decode()

    def confirm(self, calls: Sequence[UniqueCall], seconds: float) -> None:
        """Say that calls are sent."""
        self._server.run(_CONFIRM, [seconds, *_texts(calls)])

    def free(self, calls: Sequence[UniqueCall]) -> None:
        """Let go of the keys that these calls have."""
        self._server.run(_FREE, _texts(calls))

    def pause(self, queue: str) -> None:
        """Have workers start nothing more of a queue."""
        self._server.do("SADD", "dingo:paused", queue)

    def resume(self, queue: str) -> None:
        """Have them go on."""
        self._server.do("SREM", "dingo:paused", queue)

    def paused(self) -> set[str]:
        """Return the queues that are paused."""
        return {queue.decode() for queue in self._server.do("SMEMBERS", "dingo:paused")}


def _texts(calls: Sequence[UniqueCall]) -> list[str]:
    return [text for call in calls for text in (call.name, call.key, call.id)]


def _answer(text: bytes) -> Wait | None:
    if not text:
        return None
    return Wait(float(text.removeprefix(b"=")), exact=text.startswith(b"="))
