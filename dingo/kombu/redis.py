"""Redis as broker and backend: streams for tasks and reports, and one script per batch.

Every step is one Lua script, so that it happens or does not: a batch is sent, claimed, or settled together with
its reports. Needs Redis 6.2 or a server like it, and not a cluster: a script touches keys of several slots.

    dingo:meta                     schema version
    dingo:workers                  who lives: owner, scored with the end of its lease
    dingo:stop:OWNER               claims of it whose calls were cancelled
    dingo:queues                   the prefixes `dingo:{QUEUE}:` in use; below each prefix
        tasks:P, again:P           streams of what waits and runs, P the priority; `again` comes first: it holds
                                   what was claimed before and given back
        streams, levels            the streams there are; those with something to claim, scored with their rank
        later, held                what waits for its time: when, and what
        starts                     how often claimed suspects were started
        bell                       holds a token while there may be something to claim: idle workers wait for it
    dingo:call:ID                  what is known of the calls of that id, a record for each name
    dingo:reply:ADDRESS            stream of packs of reports
    dingo:sent:PRODUCER            the number of the last batch it sent: one who was not answered may repeat it

A claim is an entry that is pending in the group `dingo`. No entry is ever handed on: what is given back or taken
from the dead becomes a new entry. So the entry's id tells one claim of a task from the next, and XACK, which says
whether the entry was pending still, is the whole check of a settlement.

Times are the server's own, so that the clocks of callers and workers do not matter to leases. What was sent
survives what the server survives: with `appendonly yes` and `appendfsync always` a power cut.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import socket
import struct
import threading
from functools import lru_cache
from hashlib import sha1
from time import monotonic
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from dingo.config import mask_url
from dingo.contracts import Delivery, Envelope, ReportEnvelope, Settlement, StoredCall, Verdict
from dingo.errors import BadConfig, BrokerUnavailable
from dingo.message.frame import pack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from dingo.kombu.redis_ledger import RedisLedger

SCHEMA_VERSION = 1
OLDEST = (6, 2)

# How long a blocking command waits in the server, and how much later its answer may come (seconds).
BLOCK = 5
GRACE = 5.0
# How long any other answer, and a connection, may take (seconds).
ANSWER_SECONDS = 15.0
CONNECT_SECONDS = 5.0
# A lease that was renewed so long ago, and a stream that was written down so long ago, are left alone (seconds).
FRESH_SECONDS = 2.0
WRITTEN_FOR = 30.0
# How long a worker trusts the bell: calls that are due ring none (seconds).
LOOK = 0.5
# How often a waiting worker looks for dead ones (seconds).
REAP_EVERY = 1.0
# A connection that was not used for so long is looked at before it is used: servers close idle ones (seconds).
IDLE_SECONDS = 10.0
# Reports nobody collects are thrown out after this time; a batch may be repeated within it (seconds).
REPLY_SECONDS = 3600
# How many tasks are sent with one script.
SEND_AT_ONCE = 250
# How many packs of reports are taken at once, and how many that were taken may still lie in the server.
_COLLECT = 500
_TRIM_AT = 200
_PAGE = 1000

_LENGTHS = struct.Struct("!III")
_RECORD = struct.Struct("!II")

_COMMON = f"""
local REPLY_SECONDS = {REPLY_SECONDS}
""" + """
-- Under `maxmemory` a script is refused at its first write, if that may take memory. What empties queues must go
-- on, so it begins with a write that takes none.
local function go_on_without_memory() redis.call('DEL', 'dingo:none') end

local function clock()
  local now = redis.call('TIME')
  return now[1] + now[2] / 1000000
end

local function ring(prefix)
  if redis.call('LLEN', prefix .. 'bell') == 0 then redis.call('RPUSH', prefix .. 'bell', '1') end
end

local function call_of(data)
  local id, name = struct.unpack('>I4I4', data)
  return string.sub(data, 13, 12 + id), string.sub(data, 13 + id, 12 + id + name)
end

local function member(id, name) return #id .. ':' .. id .. name end

-- What streams have been entered into by this script, and whether they are to be written down: their sender may know
-- that this was done a moment ago.
local known, registers = {}, true

-- What is known of the calls of an id is one string, a record for each name of a letter and what belongs to it:
-- `wENTRY STREAM` of one that waits or runs, `lPREFIX` of one that waits for its time, `eFRAME` of one that ended.
local function record(name, value) return struct.pack('>I4I4', #name, #value) .. name .. value end

local function split(text)
  local list, at = {}, 1
  while text and at <= #text do
    local name, value = struct.unpack('>I4I4', text, at)
    list[#list + 1] = {string.sub(text, at + 8, at + 7 + name), string.sub(text, at + 8 + name, at + 7 + name + value)}
    at = at + 8 + name + value
  end
  return list
end

local function what_of(id, name)
  for _, one in ipairs(split(redis.call('GET', 'dingo:call:' .. id))) do
    if one[1] == name then return one[2] end
  end
end

-- Writes what is known of one call (nil: nothing any more) beside what is known of the others of its id, in `text`.
local function note(id, text, name, value, keep)
  local key, list, lives = 'dingo:call:' .. id, {}, false
  local all = split(text)
  if value then all[#all + 1] = {name, value} end
  for index, one in ipairs(all) do
    if one[1] ~= name or (value and index == #all) then
      list[#list + 1] = record(one[1], one[2])
      if string.byte(one[2]) ~= 101 then lives = true end
    end
  end
  if #list == 0 then
    redis.call('DEL', key)
  elseif lives then
    redis.call('SET', key, table.concat(list))
  elseif keep then
    redis.call('SET', key, table.concat(list), 'PX', keep)
  else
    redis.call('SET', key, table.concat(list), 'KEEPTTL')
  end
end

local function know(id, name, value, keep) note(id, redis.call('GET', 'dingo:call:' .. id), name, value, keep) end

-- Notes where a new call stands. False if it stands somewhere already.
local function enter(id, name, place)
  local key = 'dingo:call:' .. id
  if redis.call('SET', key, record(name, place), 'NX') then return true end
  local old = what_of(id, name)
  if old and string.byte(old) ~= 101 then return false end
  know(id, name, place)
  return true
end

-- Keeps a final report, unless there is one.
local function keep_report(id, name, keep, frame)
  if redis.call('SET', 'dingo:call:' .. id, record(name, 'e' .. frame), 'NX', 'PX', keep) then return end
  local old = what_of(id, name)
  if not old or string.byte(old) ~= 101 then know(id, name, 'e' .. frame, keep) end
end

-- `is_new`: it is refused if it is known. `mark`: the starts that are recorded, then u for a suspect and x for a
-- cancelled call; or nothing. Tells whether it was put.
local function put(is_new, prefix, lane, priority, due, time, id, name, data, mark)
  if due ~= '' and tonumber(due) > time then
    if not is_new then
      know(id, name, 'l' .. prefix)
    elseif not enter(id, name, 'l' .. prefix) then
      return false
    end
    local one = member(id, name)
    redis.call('ZADD', prefix .. 'later', due, one)
    redis.call('HSET', prefix .. 'held', one, struct.pack('>BB', priority, #mark) .. mark .. data)
    redis.call('SADD', 'dingo:queues', prefix)
    return true
  end
  local stream = prefix .. lane .. ':' .. priority
  local entry
  if mark == '' then
    entry = redis.call('XADD', stream, '*', 'd', data)
  else
    entry = redis.call('XADD', stream, '*', 'd', data, 'm', mark)
  end
  local place = 'w' .. entry .. ' ' .. stream
  if not is_new then
    know(id, name, place)
  elseif not enter(id, name, place) then
    redis.call('XDEL', stream, entry)
    return false
  end
  if not known[stream] then
    known[stream] = true
    local rank = (9 - priority) * 2
    if lane == 'tasks' then rank = rank + 1 end
    redis.call('ZADD', prefix .. 'levels', rank, stream)
    if registers then
      redis.call('SADD', prefix .. 'streams', stream)
      redis.call('SADD', 'dingo:queues', prefix)
    end
  end
  return true
end

-- Makes a new entry of one that is not pending any more. `data`: instead of its own, or ''.
local function move(owner, stream, entry, due, time, data, suspect)
  local found = redis.call('XRANGE', stream, entry, entry)[1]
  if not found then return end
  local old, mark = found[2][2], found[2][4] or ''
  local prefix, priority = string.match(stream, '^(.*:)%a+:(%d)$')
  local place = entry .. ' ' .. stream
  local starts = redis.call('HGET', prefix .. 'starts', place) or string.match(mark, '^%d+') or '0'
  redis.call('HDEL', prefix .. 'starts', place)
  -- What was put off was not started: a suspect stays one.
  local stays = due ~= '' and data == '' and string.find(mark, 'u')
  local flags = (suspect or stays) and 'u' or ''
  if redis.call('SREM', 'dingo:stop:' .. owner, place) == 1 or string.find(mark, 'x') then flags = flags .. 'x' end
  mark = (starts ~= '0' or flags ~= '') and starts .. flags or ''
  redis.call('XDEL', stream, entry)
  if #old < 12 then return end  -- not ours, and nothing that could stop others from being given back
  local id, name = call_of(old)
  -- A retry comes after what waits: else many that fail again and again would keep all others from running.
  local lane = data ~= '' and 'tasks' or 'again'
  put(false, prefix, lane, priority, due, time, id, name, data ~= '' and data or old, mark)
  ring(prefix)
end

-- Gives what an owner has claimed to others, but for what is in `keep`.
local function release(owner, suspect, keep)
  local count, time = 0, clock()
  for _, prefix in ipairs(redis.call('SMEMBERS', 'dingo:queues')) do
    for _, stream in ipairs(redis.call('SMEMBERS', prefix .. 'streams')) do
      local from = '-'
      repeat
        local pending = redis.pcall('XPENDING', stream, 'dingo', from, '+', 1000, owner)
        if pending.err then pending = {} end  -- no group: nobody has claimed anything of it
        for _, one in ipairs(pending) do
          from = '(' .. one[1]
          if not keep[one[1] .. ' ' .. stream] then
            redis.call('XACK', stream, 'dingo', one[1])
            move(owner, stream, one[1], '', time, '', suspect)
            count = count + 1
          end
        end
      until #pending < 1000
    end
  end
  return count
end

local function dismiss(owner)
  redis.call('ZREM', 'dingo:workers', owner)
  redis.call('DEL', 'dingo:stop:' .. owner)
  for _, prefix in ipairs(redis.call('SMEMBERS', 'dingo:queues')) do
    for _, stream in ipairs(redis.call('SMEMBERS', prefix .. 'streams')) do
      redis.pcall('XGROUP', 'DELCONSUMER', stream, 'dingo', owner)
    end
  end
end

-- Lets go of the key of a unique call (see dingo.kombu.redis_ledger).
local function free_key(name, key, id)
  local one = struct.pack('>I4', #name) .. name .. key
  if redis.call('HGET', 'dingo:unique:ids', one) ~= id then return end
  redis.call('HDEL', 'dingo:unique:ids', one)
  redis.call('ZREM', 'dingo:unique', one)
end

-- Reads reports from ARGV[at] on, keeps the final ones and collects the others' packs.
local function take_reports(at, count, packs)
  for _ = 1, count do
    local reply, id, name, keep, frame = unpack(ARGV, at, at + 4)
    at = at + 5
    if keep ~= '' then keep_report(id, name, keep, frame) end
    if reply ~= '' then
      local pack = packs[reply]
      if not pack then pack = {} packs[reply] = pack end
      pack[#pack + 1] = struct.pack('>I4', #frame) .. frame
    end
  end
  return at
end

local function publish(packs)
  for reply, pack in pairs(packs) do
    redis.call('XADD', 'dingo:reply:' .. reply, '*', 'p', table.concat(pack))
    redis.call('EXPIRE', 'dingo:reply:' .. reply, REPLY_SECONDS)
  end
end
"""  # fmt: skip


class Script:
    """A Lua script, known to the server by its digest."""

    def __init__(self, text: str) -> None:
        self.text = _COMMON + text
        self.digest = sha1(self.text.encode(), usedforsecurity=False).hexdigest()


_SEND = Script("""
-- ARGV: producer, number of this batch, 1 if it may have been sent before, then groups: prefix, priority, 1 if its
-- stream is to be written down, name, how many, then due, id, data of each
local sent = 'dingo:sent:' .. ARGV[1]
if ARGV[3] == '1' and tonumber(redis.call('GET', sent) or 0) >= tonumber(ARGV[2]) then return 0 end
redis.call('SET', sent, ARGV[2], 'EX', REPLY_SECONDS)
local time, at, rung = nil, 4, {}
while at <= #ARGV do
  local prefix, priority, new, name, count = unpack(ARGV, at, at + 4)
  at = at + 5
  registers = new == '1'
  for _ = 1, tonumber(count) do
    local due = ARGV[at]
    if due ~= '' then time = time or clock() end
    local id, data = ARGV[at + 1], ARGV[at + 2]
    if put(true, prefix, 'tasks', priority, due, time, id, name, data, '') then rung[prefix] = true end
    at = at + 3
  end
end
for prefix in pairs(rung) do ring(prefix) end
return 1
""")

_CLAIM = Script("""
-- ARGV: owner, lease ('' if it was renewed a moment ago), room, then the prefixes. Returns how long until something is
-- due (ms), and what was claimed.
go_on_without_memory()
local owner, room, time = ARGV[1], tonumber(ARGV[3]), clock()
if ARGV[2] ~= '' then redis.call('ZADD', 'dingo:workers', 'NX', time + ARGV[2], owner) end

local function first_due(prefix) return redis.call('ZRANGE', prefix .. 'later', 0, 0, 'WITHSCORES')[2] end

-- Puts what is due into its stream. Returns when the next is due, if there is any.
local function promote(prefix)
  local first = first_due(prefix)
  if not first or tonumber(first) > time then return first end
  local due = redis.call('ZRANGEBYSCORE', prefix .. 'later', '-inf', time, 'LIMIT', 0, 500)
  for _, one in ipairs(due) do
    local held = redis.call('HGET', prefix .. 'held', one)
    redis.call('ZREM', prefix .. 'later', one)
    redis.call('HDEL', prefix .. 'held', one)
    if held then
      local priority, length = struct.unpack('>BB', held)
      local data = string.sub(held, 3 + length)
      local id, name = call_of(data)
      put(false, prefix, 'tasks', priority, '', time, id, name, data, string.sub(held, 3, 2 + length))
    end
  end
  return first_due(prefix)
end

local function read(stream)
  local command = {'XREADGROUP', 'GROUP', 'dingo', owner, 'COUNT', room, 'STREAMS', stream, '>'}
  local got = redis.pcall(unpack(command))
  if got and got.err then
    redis.call('XGROUP', 'CREATE', stream, 'dingo', '0', 'MKSTREAM')
    got = redis.call(unpack(command))
  end
  return got and got[1]
end

local wait, claimed = -1, {}
for at = 4, #ARGV do
  local prefix = ARGV[at]
  local next, left_over = promote(prefix), false
  for _, stream in ipairs(redis.call('ZRANGE', prefix .. 'levels', 0, -1)) do
    if room <= 0 then
      left_over = true
      break
    end
    local got = read(stream)
    local count = got and #got[2] or 0
    if count > 0 then claimed[#claimed + 1] = got end
    if count < room then redis.call('ZREM', prefix .. 'levels', stream) else left_over = true end
    room = room - count
  end
  if left_over then ring(prefix) else redis.call('DEL', prefix .. 'bell') end
  if next then
    local left = math.max(1, math.ceil((next - time) * 1000))
    if wait < 0 or left < wait then wait = left end
  end
end
return {wait, claimed}
""")

_FINISH = Script("""
-- Settles what ended with one report each, the most of all.
-- ARGV: groups: stream, name, reply, keep, the reports as a pack, 1 if the time of who collects them is to be renewed,
-- how many, then entry, id, report of each
go_on_without_memory()
local at, before, stale = 1, 0, {}

local function finish(stream, entry, id, name, keep, frame)
  local place = 'w' .. entry .. ' ' .. stream
  local old
  if keep == '' then
    old = redis.call('GETDEL', 'dingo:call:' .. id)
  else
    old = redis.call('SET', 'dingo:call:' .. id, record(name, 'e' .. frame), 'PX', keep, 'GET')
  end
  if old and old ~= record(name, place) then  -- other calls have the same id
    note(id, old, name, keep ~= '' and 'e' .. frame or nil, keep)
  end
end

-- An entry is deleted when it stops to be pending, so one that is still there was its worker's to end.
local function given_away(stream, entries)
  local gone = {}
  for index, entry in ipairs(entries) do
    if #redis.call('XRANGE', stream, entry, entry) == 0 then
      gone[index] = true
      stale[#stale + 1] = before + index - 1
    end
  end
  return gone
end

while at <= #ARGV do
  local stream, name, reply, keep, pack, renews, count = unpack(ARGV, at, at + 6)
  count, at = tonumber(count), at + 7
  local entries, gone = {}, {}
  for index = 1, count do entries[index] = ARGV[at + 3 * index - 3] end
  if redis.call('XACK', stream, 'dingo', unpack(entries)) < count then
    gone = given_away(stream, entries)
    local frames = {}
    for index = 1, count do
      local frame = ARGV[at + 3 * index - 1]
      if not gone[index] then frames[#frames + 1] = struct.pack('>I4', #frame) .. frame end
    end
    pack = table.concat(frames)
  end
  redis.call('XDEL', stream, unpack(entries))
  for index = 1, count do
    if not gone[index] then finish(stream, entries[index], ARGV[at + 1], name, keep, ARGV[at + 2]) end
    at = at + 3
  end
  if reply ~= '' and pack ~= '' then
    local box = 'dingo:reply:' .. reply
    if renews == '1' or not redis.call('XADD', box, 'NOMKSTREAM', '*', 'p', pack) then
      redis.call('XADD', box, '*', 'p', pack)
      redis.call('EXPIRE', box, REPLY_SECONDS)
    end
  end
  before = before + count
end
return stale
""")

_SETTLE = Script("""
-- ARGV: owner, then of each: stream, entry, verdict, id, name, started, due, data, number of reports, and of tasks
-- that take its place; then the reports, and of each of these tasks: prefix, priority, due, id, name, data.
-- `started`: '1' and the key that is to be free again, if it may have been started as a suspect, or had such a key.
go_on_without_memory()
local owner, time, at, index = ARGV[1], clock(), 2, 0
local stale, packs, gone = {}, {}, {}
while at <= #ARGV do
  local stream, entry, verdict, id, name, started, due, data, count, sends = unpack(ARGV, at, at + 9)
  at = at + 10
  if redis.call('XACK', stream, 'dingo', entry) == 0 then
    stale[#stale + 1] = index
    at = at + 5 * count + 6 * sends
  else
    if verdict == 'a' then
      local entries = gone[stream]
      if not entries then entries = {} gone[stream] = entries end
      entries[#entries + 1] = entry
      know(id, name, nil)
      if started ~= '' then
        redis.call('HDEL', string.match(stream, '^(.*:)%a+:%d$') .. 'starts', entry .. ' ' .. stream)
        if #started > 1 then free_key(name, string.sub(started, 2), id) end
      end
    else
      move(owner, stream, entry, due, time, data, false)
    end
    at = take_reports(at, tonumber(count), packs)
    for _ = 1, tonumber(sends) do
      local prefix, priority, when, new, of, task = unpack(ARGV, at, at + 5)
      if put(true, prefix, 'tasks', priority, when, time, new, of, task, '') then ring(prefix) end
      at = at + 6
    end
  end
  index = index + 1
end
for stream, entries in pairs(gone) do
  for from = 1, #entries, 1000 do
    redis.call('XDEL', stream, unpack(entries, from, math.min(from + 999, #entries)))
  end
end
publish(packs)
return stale
""")

_REPORT = Script("""
-- ARGV: the reports
go_on_without_memory()
local packs = {}
take_reports(1, #ARGV / 5, packs)
publish(packs)
return 1
""")

_STARTING = Script("""
-- ARGV: stream, entry, starts so far
go_on_without_memory()
local pending = redis.pcall('XPENDING', ARGV[1], 'dingo', ARGV[2], ARGV[2], 1)
if pending.err or #pending == 0 then return ARGV[3] + 1 end
local starts, place = string.match(ARGV[1], '^(.*:)%a+:%d$') .. 'starts', ARGV[2] .. ' ' .. ARGV[1]
redis.call('HSETNX', starts, place, ARGV[3])
return redis.call('HINCRBY', starts, place, 1)
""")

_TEND = Script("""
-- ARGV: owner, lease, then what need not be stopped any more. Returns what is to be stopped.
go_on_without_memory()
redis.call('ZADD', 'dingo:workers', clock() + ARGV[2], ARGV[1])
for at = 3, #ARGV do redis.call('SREM', 'dingo:stop:' .. ARGV[1], ARGV[at]) end
return redis.call('SMEMBERS', 'dingo:stop:' .. ARGV[1])
""")

_REAP = Script("""
-- ARGV: owner. Returns the dead, and how much each had.
go_on_without_memory()
local dead = {}
for _, owner in ipairs(redis.call('ZRANGEBYSCORE', 'dingo:workers', '-inf', clock(), 'LIMIT', 0, 10)) do
  if owner ~= ARGV[1] then
    dead[#dead + 1] = {owner, release(owner, true, {})}
    dismiss(owner)
  end
end
return dead
""")

_RELEASE = Script("""
-- ARGV: owner, 1 if it ends, then what it keeps
go_on_without_memory()
local keep = {}
for at = 3, #ARGV do keep[ARGV[at]] = true end
local count = release(ARGV[1], false, keep)
if ARGV[2] == '1' then dismiss(ARGV[1]) end
return count
""")

_FETCH = Script("""
-- ARGV: id, name or ''. Returns name, state, prefix, due, frame: of any name, rather one that has ended.
local name, value
for _, one in ipairs(split(redis.call('GET', 'dingo:call:' .. ARGV[1]))) do
  if (ARGV[2] == '' or ARGV[2] == one[1]) and (not value or string.byte(one[2]) == 101) then
    name, value = one[1], one[2]
  end
end
if not name then return false end
local what = string.sub(value, 1, 1)
if what == 'e' then return {name, 'ended', '', '', string.sub(value, 2)} end
if what == 'l' then
  local where = string.sub(value, 2)
  return {name, 'delayed', where, redis.call('ZSCORE', where .. 'later', member(ARGV[1], name)) or '', ''}
end
local entry, where = string.match(value, '^w(%S+) (.*)$')
local pending = redis.pcall('XPENDING', where, 'dingo', entry, entry, 1)
local state = (pending.err or #pending == 0) and 'waiting' or 'running'
return {name, state, string.match(where, '^(.*:)%a+:%d$'), '', ''}
""")

_CANCEL = Script("""
-- ARGV: id, name. Returns 0: there is none, 1: it is withdrawn, 2: its worker is asked to stop it.
go_on_without_memory()
local id, name = ARGV[1], ARGV[2]
local value = what_of(id, name)
if not value or string.byte(value) == 101 then return 0 end
local entry, where = string.match(value, '^w(%S+) (.*)$')
if not entry then
  where = string.sub(value, 2)
  redis.call('ZREM', where .. 'later', member(id, name))
  redis.call('HDEL', where .. 'held', member(id, name))
else
  local pending = redis.pcall('XPENDING', where, 'dingo', entry, entry, 1)
  if not pending.err and #pending > 0 then
    redis.call('SADD', 'dingo:stop:' .. pending[1][2], string.sub(value, 2))
    return 2
  end
  redis.call('XDEL', where, entry)
end
know(id, name, nil)
return 1
""")

_UNKNOWN = Script("""
-- ARGV: id and name of each call. Returns the indexes of those that neither wait nor run nor have ended.
local unknown = {}
for at = 1, #ARGV, 2 do
  if not what_of(ARGV[at], ARGV[at + 1]) then unknown[#unknown + 1] = (at - 1) / 2 end
end
return unknown
""")

_FORGET = Script("""
-- ARGV: id, name or ''
local count = 0
for _, one in ipairs(split(redis.call('GET', 'dingo:call:' .. ARGV[1]))) do
  if (ARGV[2] == '' or ARGV[2] == one[1]) and string.byte(one[2]) == 101 then
    know(ARGV[1], one[1], nil)
    count = count + 1
  end
end
return count
""")


class Server:
    """A way to one server: connections are made when they are needed, and again when they were lost."""

    def __init__(self, url: str, connect_seconds: float = CONNECT_SECONDS) -> None:
        self._shown = mask_url(url)
        try:
            parts = urlsplit(url)
            self._secrets = [one for one in (parts.password, unquote(parts.password or "")) if one]
            self.pool = redis.ConnectionPool.from_url(
                url, socket_timeout=ANSWER_SECONDS, socket_connect_timeout=connect_seconds, socket_keepalive=True
            )
        except (ValueError, TypeError):
            raise BadConfig(f"{self._shown!r} is no URL of a Redis server: redis://user:password@host:6379/0") from None
        # Whatever the URL says: answers are bytes in the old form, and nothing is done twice behind our back.
        # A claim that is done again would leave the first one's tasks with nobody.
        self.pool.connection_kwargs.update(decode_responses=False, protocol=2, retry=Retry(NoBackoff(), 0))
        self.client: Any = redis.Redis(connection_pool=self.pool)
        self._free: list[tuple[Any, float]] = []  # connections that nobody uses, and since when
        self._process = os.getpid()
        self.started: str | None = None
        """Which start of the server this is, where it may be asked."""

    def open(self, emit: Callable[..., None]) -> None:
        """Look who is there, and whether it can be a broker. Raises BrokerUnavailable, BadConfig."""
        with self.errors():
            self._inspect(emit)
        version = self.do("HGET", "dingo:meta", "version")
        if version is None:
            self.do("HSETNX", "dingo:meta", "version", SCHEMA_VERSION)
        elif int(version) > SCHEMA_VERSION:
            raise BadConfig(f"{self._shown} was used by a newer dingo (schema {int(version)}): upgrade this one")

    def _inspect(self, emit: Callable[..., None]) -> None:
        try:
            info = self.client.info()
        except redis.exceptions.NoPermissionError:
            return
        self.started = info.get("run_id")
        numbers = re.findall(r"\d+", str(info.get("redis_version")))
        if numbers and tuple(map(int, numbers[:2])) < OLDEST:
            raise BadConfig(f"{self._shown} is Redis {info.get('redis_version')}: 6.2 or newer is needed")
        if info.get("cluster_enabled"):
            raise BadConfig(f"{self._shown} is a cluster, which cannot be a broker: use a server that is none")
        policy = info.get("maxmemory_policy", "noeviction")
        if info.get("maxmemory") and policy != "noeviction":
            text = f"{self._shown} has maxmemory-policy {policy}: when its memory is full, it throws out calls"
            emit(30, "broker.evicts", text, {"policy": policy})

    @contextlib.contextmanager
    def errors(self) -> Iterator[None]:
        """Turn what the client raises into our own, without secrets."""
        try:
            yield
        except (redis.RedisError, OSError) as error:
            text = str(error)
            for secret in self._secrets:
                text = text.replace(secret, "***")
            raise BrokerUnavailable(f"{self._shown}: {text}") from None

    def was_started_anew(self) -> bool:
        """Whether it was started since this was last asked, or that cannot be told. Raises BrokerUnavailable."""
        before = self.started
        with self.errors(), contextlib.suppress(redis.exceptions.NoPermissionError):
            self.started = self.client.info("server").get("run_id")
        return self.started is None or self.started != before

    def do(self, *command: Any) -> Any:
        """Carry out one command. Raises BrokerUnavailable."""
        with self.errors():
            return self._talk(*command)

    def run(self, script: Script, arguments: Sequence[Any]) -> Any:
        """Carry out a script. Raises BrokerUnavailable."""
        with self.errors():
            try:
                return self._talk("EVALSHA", script.digest, 0, *arguments)
            except redis.exceptions.NoScriptError:
                return self._talk("EVAL", script.text, 0, *arguments)

    def _talk(self, *command: Any) -> Any:
        """Carry out one command on a connection that nobody else uses meanwhile.

        The client's own way does the same with a good deal around it that nothing here needs, and that would take
        longer than the server does.
        """
        connection = self._connect()
        try:
            connection.send_command(*command)
            answer = connection.read_response()
        except redis.ResponseError:  # it is the server's answer: the connection is as good as before
            self._free.append((connection, monotonic()))
            raise
        except BaseException:
            with contextlib.suppress(redis.RedisError, OSError):
                connection.disconnect()
            raise
        self._free.append((connection, monotonic()))
        return answer

    def _connect(self) -> Any:
        """Return a connection: the one that was used last, unless the server has closed it meanwhile."""
        if self._process != os.getpid():  # in the child of a fork they are the parent's
            self._process, self._free = os.getpid(), []
        try:
            connection, used = self._free.pop()
        except IndexError:
            connection = self.pool.connection_class(**self.pool.connection_kwargs)
        else:
            if monotonic() - used > IDLE_SECONDS and _is_closed(connection):
                connection.disconnect()
        if not connection.is_connected:
            connection.connect()
        return connection

    def close(self) -> None:
        """Close the connections."""
        with contextlib.suppress(redis.RedisError, OSError):
            self.pool.disconnect()
            while self._free:
                self._free.pop()[0].disconnect()


def _is_closed(connection: Any) -> bool:
    """Whether the server has closed a connection on which nothing is asked."""
    try:
        return bool(connection.can_read(0))
    except (redis.RedisError, OSError):
        return True


WOKEN: Any = object()


class Line:
    """A connection for blocking commands, whose wait another thread can end.

    A command stays in the server when the wait for it ends, and the next wait goes on with it. Nothing is asked
    of the server to end a wait, so that to wake costs the one who wakes no round trip.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._connection: Any = None
        self._asked: tuple[Any, ...] | None = None
        self._until = 0.0
        self._hears, self._rings = socket.socketpair()
        self._hears.setblocking(False)
        self._rings.setblocking(False)

    def wake(self) -> None:
        """End the wait that is, or the next. Any thread may call it."""
        with contextlib.suppress(OSError):  # full: rung often enough; closed: nobody waits
            self._rings.send(b"!")

    def wait(self, command: tuple[Any, ...] | None, seconds: float) -> Any:
        """Wait for the answer to a command (None: to the one that was asked, if any) for so many seconds.

        Returns WOKEN after `wake`, None if nothing came. Raises BrokerUnavailable.
        """
        try:
            with self._server.errors():
                if command is not None:
                    self._ask(command)
                return self._listen(seconds)
        except BrokerUnavailable:
            self.drop()
            raise

    def _ask(self, command: tuple[Any, ...]) -> None:
        if self._asked == command:
            return
        if self._asked is not None:
            self.drop()
        if self._connection is None:
            self._connection = self._server.pool.connection_class(**self._server.pool.connection_kwargs)
            self._connection.connect()
        self._connection.send_command(*command)
        self._asked = command
        self._until = monotonic() + BLOCK + GRACE

    def _listen(self, seconds: float) -> Any:
        poll = select.poll()
        poll.register(self._hears, select.POLLIN)
        if self._asked is not None:
            poll.register(self._connection._sock, select.POLLIN)
        ready = {one for one, _ in poll.poll(max(0.0, seconds) * 1000)}
        if self._hears.fileno() in ready:
            with contextlib.suppress(BlockingIOError):
                while self._hears.recv(4096):
                    pass
            return WOKEN
        if ready:
            self._asked = None
            return self._connection.read_response()
        if self._asked is not None and monotonic() > self._until:
            raise redis.TimeoutError("the server does not answer")
        return None

    def drop(self) -> None:
        """Close the connection; the next command makes a new one."""
        connection, self._connection, self._asked = self._connection, None, None
        if connection is not None:
            with contextlib.suppress(redis.RedisError, OSError):
                connection.disconnect()

    def close(self) -> None:
        """Let go of everything."""
        self.drop()
        self._hears.close()
        self._rings.close()


@lru_cache(maxsize=1000)
def _prefix(queue: str) -> str:
    return f"dingo:{{{queue}}}:"


def _place(token: tuple[bytes, bytes]) -> bytes:
    """Write a claim's stream and entry as the server does."""
    return token[1] + b" " + token[0]


def _number(entry: bytes) -> tuple[int, ...]:
    """Return an entry's id as something that can be compared."""
    return tuple(map(int, entry.split(b"-")))


def _queue(key: bytes) -> str:
    """Return the queue of a key that begins with its prefix."""
    return key[7 : key.rindex(b"}:")].decode()


def _data(envelope: Envelope, frame: bytes) -> bytes:
    texts = envelope.id.encode(), envelope.name.encode(), envelope.reply.encode()
    return b"".join((_LENGTHS.pack(*map(len, texts)), *texts, frame))


def _parse(data: bytes) -> tuple[str, str, str, bytes]:
    """Take id, name, reply and frame out of what `_data` made. Raises ValueError, struct.error for other things."""
    length, name_length, reply_length = _LENGTHS.unpack_from(data)
    name_at = _LENGTHS.size + length
    reply_at = name_at + name_length
    frame_at = reply_at + reply_length
    if frame_at > len(data):
        raise ValueError("cut")
    texts = data[_LENGTHS.size : name_at], data[name_at:reply_at], data[reply_at:frame_at]
    return texts[0].decode(), texts[1].decode(), texts[2].decode(), data[frame_at:]


def _records(text: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Take apart what is known of the calls of an id, as the scripts write it."""
    at = 0
    while at < len(text):
        length, value_length = _RECORD.unpack_from(text, at)
        value_at = at + _RECORD.size + length
        yield text[at + _RECORD.size : value_at], text[value_at : value_at + value_length]
        at = value_at + value_length


def _report_arguments(report: ReportEnvelope) -> tuple[Any, ...]:
    keep = int(report.keep * 1000) if report.final else 0
    return report.reply, report.id, report.name, keep if keep > 0 else "", report.frame


class RedisProducer:
    """Puts tasks into Redis."""

    def __init__(self, url: str, connect_seconds: float = CONNECT_SECONDS) -> None:
        self._server = Server(url, connect_seconds)
        self._name = os.urandom(12).hex()
        self._unsure: list[tuple[str, str]] = []
        self._first = self._next = 1
        self._written: dict[tuple[str, int], float] = {}  # when the stream of a queue and priority was written down

    def open(self, emit: Callable[..., None]) -> None:
        """Look whether the server is there. Raises BrokerUnavailable, BadConfig."""
        self._server.open(emit)

    def send(self, envelopes: Sequence[Envelope]) -> None:
        """Send a batch, in parts that do not keep the server from others for long.

        What was not answered may be sent again: even if all of it has ended meanwhile, nothing runs twice.
        """
        if not envelopes:
            return
        calls = [(one.name, one.id) for one in envelopes]
        again = self._unsure == calls
        if again:
            self._written.clear()
        else:
            self._unsure, self._first = calls, self._next
        for index, at in enumerate(range(0, len(envelopes), SEND_AT_ONCE)):
            self._send(self._first + index, envelopes[at : at + SEND_AT_ONCE], again=again)
        self._unsure = []

    def _send(self, number: int, envelopes: Sequence[Envelope], *, again: bool) -> None:
        self._next = max(self._next, number + 1)
        # The child of a fork is another producer.
        arguments: list[Any] = [f"{self._name}.{os.getpid()}", number, "1" if again else ""]
        group: tuple[str, int, str] | None = None
        count_at = 0
        for one in envelopes:
            if group != (one.queue, one.priority, one.name):
                group = (one.queue, one.priority, one.name)
                new = self._is_to_be_written(one.queue, one.priority)
                arguments += (_prefix(one.queue), one.priority, new, one.name, 0)
                count_at = len(arguments) - 1
            arguments[count_at] += 1
            arguments += ("" if one.due is None else repr(one.due), one.id, _data(one, one.frame))
        self._server.run(_SEND, arguments)

    def _is_to_be_written(self, queue: str, priority: int) -> str:
        """Return "1" where the stream is to be written down: the first time, and from time to time."""
        now = monotonic()
        if now - self._written.get((queue, priority), -WRITTEN_FOR) < WRITTEN_FOR:
            return ""
        self._written[queue, priority] = now
        return "1"

    def close(self) -> None:
        """Close the connection."""
        self._server.close()


class RedisWorker:
    """Consumer and Reporter: claims tasks, and settles them together with their reports."""

    def __init__(self, url: str, lease_seconds: float, connect_seconds: float = CONNECT_SECONDS) -> None:
        self._server = Server(url, connect_seconds)
        self._lease = lease_seconds
        self.ledger = _ledger(self._server, lease_seconds)
        self._line: Line | None = None
        self._tend_lock = threading.Lock()

    def open(self, emit: Callable[..., None]) -> None:
        """Say that this worker lives. Raises BrokerUnavailable, BadConfig."""
        if self._line is not None:
            return
        self._server.open(emit)
        self._emit = emit
        self.owner = self.ledger.owner = f"worker-{os.getpid()}-{os.urandom(6).hex()}"
        self._held: dict[tuple[str, str], tuple[bytes, bytes]] = {}
        self._stops: set[tuple[bytes, bytes]] = set()
        self._let_go: set[bytes] = set()
        self._missed: set[bytes] = set()
        self._started: set[tuple[bytes, bytes]] = set()
        self._unsure: set[tuple[bytes, bytes]] = set()
        self._lost_claim = False
        self._tended = -FRESH_SECONDS  # when the lease was renewed (time.monotonic)
        self._renewed: dict[str, float] = {}  # when the time of who collects reports was, by address
        self._dry: frozenset[str] | None = None  # the queues that were empty when they were last looked at
        self._look_at = 0.0  # when they are to be looked at again: something may be due then (time.monotonic)
        self._settled_in()
        self._line = Line(self._server)
        self.tend()

    def _settled_in(self) -> None:
        """Leave the dead alone for a while: after an outage all leases are over, and the living must renew theirs."""
        self._reap_at = monotonic() + self._lease / 3

    # -- claims -----------------------------------------------------------------------------------------------------

    def claim(self, queues: Sequence[str], room: int, wait: float) -> list[Delivery]:
        """Claim up to `room` tasks, the best of the first queue first."""
        until = monotonic() + wait
        wanted = room > 0 and bool(queues)
        try:
            while True:
                self._reap()
                claimed = self._claim_anything(queues, room) if wanted else []
                now = monotonic()
                if claimed or now >= until:
                    return claimed
                answer = self._rest(queues if wanted else (), min(until, self._look_at if wanted else until) - now)
                if answer is WOKEN:
                    return []
                if answer is not None:
                    self._dry = None
        except BrokerUnavailable:
            self._dry = None
            self._settled_in()
            raise

    def _claim_anything(self, queues: Sequence[str], room: int) -> list[Delivery]:
        """Claim what there is. What was empty is not looked at again until a bell rings, or for a while."""
        now = monotonic()
        if self._dry == (asked := frozenset(queues)) and now < self._look_at:
            return []
        claimed, due_in = self._claim_now(queues, room)
        self._dry = asked if len(claimed) < room else None
        self._look_at = now + min(LOOK, due_in or LOOK)
        return claimed

    def _claim_now(self, queues: Sequence[str], room: int) -> tuple[list[Delivery], float | None]:
        """Return what there is to claim, and in how many seconds something is due."""
        if self._lost_claim:  # its answer got lost: the server thinks that we have what we do not know
            kept = [_place(token) for token in self._held.values()]
            self._server.run(_RELEASE, [self.owner, 0, *kept])
        self._lost_claim = True
        lease = "" if monotonic() - self._tended < FRESH_SECONDS else self._lease
        wait, streams = self._server.run(_CLAIM, [self.owner, lease, room, *map(_prefix, queues)])
        self._lost_claim = False
        claimed: list[Delivery] = []
        for stream, entries in streams:
            queue, priority = _queue(stream), int(stream[-1:])
            for entry, fields in entries:
                try:
                    claimed.append(self._delivery(queue, priority, (stream, entry), fields))
                except (ValueError, IndexError, struct.error):
                    self._refuse(queue, stream, entry)
        return claimed, None if wait < 0 else wait / 1000

    def _refuse(self, queue: str, stream: bytes, entry: bytes) -> None:
        """Delete what is no task of ours, so that it stands in nobody's way."""
        self._server.do("XACK", stream, "dingo", entry)
        self._server.do("XDEL", stream, entry)
        text = f"entry {entry.decode()} of queue {queue!r} was deleted: it is not dingo's"
        self._emit(40, "message.refused", text, {"queue": queue, "entry": entry.decode()})

    def _delivery(self, queue: str, priority: int, token: tuple[bytes, bytes], fields: list[bytes]) -> Delivery:
        call_id, name, reply, frame = _parse(fields[1])
        self._held[name, call_id] = token
        envelope = Envelope(queue, call_id, name, frame, priority, None, reply)
        if len(fields) == 2:
            return Delivery(envelope, token)
        mark = fields[3].decode()
        if "x" in mark:
            self._stops.add(token)
        return Delivery(envelope, token, "u" in mark, int(mark.rstrip("ux")))

    def _rest(self, queues: Sequence[str], seconds: float) -> Any:
        """Wait until a bell rings, for so many seconds, or until it is woken."""
        assert self._line is not None
        command = ("BLPOP", *(_prefix(queue) + "bell" for queue in queues), BLOCK) if queues else None
        answer = self._line.wait(command, seconds)
        if command is None and answer is not None and answer is not WOKEN:
            self._server.do("RPUSH", answer[0], answer[1])  # no room here: let another worker hear it
        return answer

    # -- verdicts and reports ---------------------------------------------------------------------------------------

    def settle(self, settlements: Sequence[Settlement]) -> list[Settlement]:
        """Carry out verdicts and publish their reports, in one script; return the stale ones.

        What ended with one report, as most do, goes by a script of its own, so these are two where there is both.
        """
        plain: dict[tuple[Any, ...], list[Settlement]] = {}
        others: list[Settlement] = []
        for one in settlements:
            if self._is_plain(one):
                report = one.reports[0]
                plain.setdefault((one.delivery.token[0], report.name, report.reply, report.keep), []).append(one)
            else:
                others.append(one)
        stale: list[Settlement] = []
        try:
            if plain:
                stale = self._finish(plain)
            if others:
                stale += self._settle_others(others)
        except BrokerUnavailable:
            self._unsure.update(one.delivery.token for one in settlements)
            raise
        self._settled(settlements)
        return self._surely(stale, settlements)

    def _is_plain(self, one: Settlement) -> bool:
        if one.verdict is not Verdict.ACK or len(one.reports) != 1:
            return False
        if not one.reports[0].final or one.frees is not None or one.sends:
            return False
        return not one.delivery.starts and one.delivery.token not in self._started

    def _finish(self, groups: dict[tuple[Any, ...], list[Settlement]]) -> list[Settlement]:
        arguments: list[Any] = []
        order: list[Settlement] = []
        for (stream, name, reply, keep), group in groups.items():
            frames = [one.reports[0].frame for one in group]
            milliseconds = int(keep * 1000)
            keep_for = milliseconds if milliseconds > 0 else ""
            arguments += (stream, name, reply, keep_for, pack(frames), self._renews(reply), len(group))
            for one, frame in zip(group, frames, strict=True):
                arguments += (one.delivery.token[1], one.delivery.envelope.id, frame)
            order += group
        return [order[index] for index in self._server.run(_FINISH, arguments)]

    def _renews(self, reply: str) -> str:
        """Return "1" where the time is to be renewed for which reports wait for who collects them."""
        now = monotonic()
        if now - self._renewed.get(reply, -REPLY_SECONDS) < REPLY_SECONDS / 6:
            return ""
        if len(self._renewed) > _PAGE:
            self._renewed.clear()
        self._renewed[reply] = now
        return "1"

    def _settle_others(self, settlements: list[Settlement]) -> list[Settlement]:
        arguments: list[Any] = [self.owner]
        for one in settlements:
            self._add(arguments, one)
        return [settlements[index] for index in self._server.run(_SETTLE, arguments)]

    def _settled(self, settlements: Sequence[Settlement]) -> None:
        """Hold the claims no more, but for one of the same call that was made anew meanwhile."""
        for one in settlements:
            key = (one.delivery.envelope.name, one.delivery.envelope.id)
            if self._held.get(key) == one.delivery.token:
                del self._held[key]

    def _surely(self, stale: list[Settlement], settlements: Sequence[Settlement]) -> list[Settlement]:
        """Leave out what was tried before without an answer: it may be stale because it was carried out then."""
        if stale:
            stale = [one for one in stale if one.delivery.token not in self._unsure]
        if self._unsure or self._started or self._stops:
            tokens = {one.delivery.token for one in settlements}
            for marked in (self._unsure, self._started, self._stops):
                marked.difference_update(tokens)
        return stale

    def _add(self, arguments: list[Any], one: Settlement) -> None:
        envelope = one.delivery.envelope
        token = one.delivery.token
        due: Any = ""
        data = b""
        if one.verdict is Verdict.LATER:
            due = "" if one.due is None else repr(one.due)
            data = b"" if one.frame is None else _data(envelope, one.frame)
        started = "1" if one.delivery.starts or token in self._started or one.frees is not None else ""
        if one.frees is not None:
            started += one.frees
        arguments += (*token, _VERDICTS[one.verdict], envelope.id, envelope.name, started, due, data)
        arguments += (len(one.reports), len(one.sends))
        for report in one.reports:
            arguments += _report_arguments(report)
        for task in one.sends:
            due = "" if task.due is None else repr(task.due)
            arguments += (_prefix(task.queue), task.priority, due, task.id, task.name, _data(task, task.frame))

    def report(self, reports: Sequence[ReportEnvelope]) -> None:
        """Publish reports of tasks that go on."""
        if reports:
            self._server.run(_REPORT, [field for one in reports for field in _report_arguments(one)])

    def starting(self, delivery: Delivery) -> int:
        """Record the start of a suspect."""
        self._started.add(delivery.token)
        starts: int = self._server.run(_STARTING, [*delivery.token, delivery.starts])
        return starts

    # -- signs of life ----------------------------------------------------------------------------------------------

    def tend(self) -> list[Any]:
        """Renew the lease; return what is to be stopped."""
        with self._tend_lock:
            if self._line is None:
                return []
            now = monotonic()
            asked = set(self._server.run(_TEND, [self.owner, self._lease, *self._let_go]))
            self._tended = now
            stops = self._stops.copy()
            held = self._held.copy() if asked or stops else {}
            unknown = asked - {_place(token) for token in held.values()}
            # What is not held the second time was settled. The first time it may be on its way from the server.
            self._let_go, self._missed = unknown & self._missed, unknown
            return [key for key, token in held.items() if token in stops or _place(token) in asked]

    def wake(self) -> None:
        """Make a waiting `claim` return."""
        line = self._line
        if line is not None:
            line.wake()

    def _reap(self) -> None:
        """Give what dead workers had to the living."""
        if monotonic() < self._reap_at:
            return
        self._reap_at = monotonic() + REAP_EVERY
        for owner, taken in self._server.run(_REAP, [self.owner]):
            payload = {"owner": owner.decode(), "tasks": taken}
            self._emit(30, "worker.lost", f"{payload['owner']} is dead: {taken} tasks it had wait again", payload)

    def close(self) -> None:
        """Give back what is claimed."""
        with self._tend_lock:
            line, self._line = self._line, None
            if line is None:
                return
            self.ledger.close()
            with contextlib.suppress(BrokerUnavailable):
                self._server.run(_RELEASE, [self.owner, 1])
        line.close()
        self._server.close()


class RedisStore:
    """Gets reports out of Redis, and looks at what is in it."""

    def __init__(self, url: str, connect_seconds: float = CONNECT_SECONDS) -> None:
        self._server = Server(url, connect_seconds)
        self.ledger = _ledger(self._server)
        self._line: Line | None = None
        self._seen: dict[str, bytes] = {}
        self._untrimmed = 0

    def open(self, emit: Callable[..., None]) -> None:
        """Look whether the server is there. Raises BrokerUnavailable, BadConfig."""
        self._server.open(emit)
        self._line = self._line or Line(self._server)

    def collect(self, reply: str, wait: float) -> list[bytes]:
        """Return the packs of new reports for this address.

        They stay in the server until they are here: a connection that is lost on the way loses nothing.
        """
        assert self._line is not None
        until = monotonic() + wait
        while True:
            answer = self._read(reply, until - monotonic())
            if answer is WOKEN:
                return []
            if answer:
                ((_, entries),) = answer
                self._seen[reply] = entries[-1][0]
                self._untrimmed += len(entries)
                if self._untrimmed >= _TRIM_AT:
                    self._trim(reply)
                return [fields[1] for _, fields in entries]
            if until - monotonic() <= 0:
                self._trim(reply)
                return []

    def _read(self, reply: str, wait: float) -> Any:
        assert self._line is not None
        streams = ("STREAMS", f"dingo:reply:{reply}", self._seen.get(reply, b"0"))
        if wait <= 0:  # one who does not wait still wants the server's answer
            return self._line.wait(("XREAD", "COUNT", _COLLECT, *streams), GRACE)
        return self._line.wait(("XREAD", "COUNT", _COLLECT, "BLOCK", BLOCK * 1000, *streams), wait)

    def _trim(self, reply: str) -> None:
        """Let the server forget what has come."""
        if self._untrimmed:
            milliseconds, number = _number(self._seen[reply])
            self._server.do("XTRIM", f"dingo:reply:{reply}", "MINID", b"%d-%d" % (milliseconds, number + 1))
            self._untrimmed = 0

    def wake(self) -> None:
        """Make a waiting `collect` return."""
        line = self._line
        if line is not None:
            line.wake()

    def fetch(self, id: str, name: str | None) -> StoredCall | None:
        """Return what is known of a call."""
        found = self._server.run(_FETCH, [id, name or ""])
        if found is None:
            return None
        of, state, prefix, due, frame = found
        queue = _queue(prefix) if prefix else ""
        ended = state == b"ended"
        return StoredCall(id, of.decode(), state.decode(), frame if ended else None, queue, float(due) if due else None)

    def unknown(self, calls: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        """Return those of the calls (id and name) that a server which was started anew does not know any more."""
        if not self._server.was_started_anew():
            return []
        gone: list[tuple[str, str]] = []
        try:
            for at in range(0, len(calls), _PAGE):
                part = calls[at : at + _PAGE]
                gone += (part[index] for index in self._server.run(_UNKNOWN, [text for call in part for text in call]))
            self._rewind()
        except BrokerUnavailable:
            self._server.started = None
            raise
        return gone

    def _rewind(self) -> None:
        """Collect from the beginning of a stream that was made anew by a clock behind the last one's."""
        for reply in self._seen:
            newest = self._server.do("XREVRANGE", f"dingo:reply:{reply}", "+", "-", "COUNT", 1)
            if not newest or _number(newest[0][0]) < _number(self._seen[reply]):
                self._seen[reply] = b"0-0"
                self._untrimmed = 0

    def forget(self, id: str, name: str | None) -> bool:
        """Delete what is kept of a call."""
        return bool(self._server.run(_FORGET, [id, name or ""]))

    def cancel(self, id: str, name: str) -> bool | None:
        """Withdraw a call that waits: True; ask its worker to stop it: None; it has ended: False."""
        return (False, True, None)[self._server.run(_CANCEL, [id, name])]

    def calls(self, state: str, queue: str | None) -> list[StoredCall]:
        """List the calls in a state, in the order they would run."""
        with self._server.errors():
            if state == "ended":
                return list(self._ended())
            prefixes = [_prefix(queue).encode()] if queue else sorted(self._server.client.smembers("dingo:queues"))
            if state == "delayed":
                return [call for prefix in prefixes for call in self._delayed(prefix)]
            return [call for prefix in prefixes for call in self._here(prefix, state)]

    def _ended(self) -> Iterator[StoredCall]:
        client, page = self._server.client, []
        for key in client.scan_iter(match="dingo:call:*", count=_PAGE):
            page.append(key)
            if len(page) == _PAGE:
                yield from self._ended_of(page)
                page = []
        yield from self._ended_of(page)

    def _ended_of(self, keys: list[bytes]) -> Iterator[StoredCall]:
        for key, text in zip(keys, self._server.client.mget(keys) if keys else (), strict=True):
            for name, value in _records(text or b""):
                if value.startswith(b"e"):
                    yield StoredCall(key[11:].decode(), name.decode(), "ended", value[1:])

    def _delayed(self, prefix: bytes) -> Iterator[StoredCall]:
        for one, due in self._server.client.zrange(prefix + b"later", 0, -1, withscores=True):
            length, _, rest = one.partition(b":")
            at = int(length)
            yield StoredCall(rest[:at].decode(), rest[at:].decode(), "delayed", None, _queue(prefix), due)

    def _here(self, prefix: bytes, state: str) -> Iterator[StoredCall]:
        """List what has been claimed ("running"), or what has not ("waiting")."""
        client = self._server.client
        streams = client.smembers(prefix + b"streams")
        for stream in sorted(streams, key=lambda one: (-int(one[-1:]), b":tasks:" in one)):
            groups = client.xinfo_groups(stream) if client.exists(stream) else []
            read = groups[0]["last-delivered-id"] if groups else b"0-0"
            at, end = (b"(" + read, b"+") if state == "waiting" else (b"-", read)
            while entries := client.xrange(stream, at, end, count=_PAGE):
                at = b"(" + entries[-1][0]
                for _, fields in entries:
                    with contextlib.suppress(KeyError, ValueError, struct.error):  # what a worker would refuse
                        yield StoredCall(*_parse(fields[b"d"])[:2], state, None, _queue(prefix))

    def close(self) -> None:
        """Close the connections."""
        line, self._line = self._line, None
        if line is not None:
            line.close()
        self._server.close()


def _ledger(server: Server, lease_seconds: float = 0.0) -> RedisLedger:
    from dingo.kombu.redis_ledger import RedisLedger  # noqa: PLC0415 - its scripts build upon those here

    return RedisLedger(server, lease_seconds)


_VERDICTS = {Verdict.ACK: "a", Verdict.RETURN: "r", Verdict.LATER: "l"}
