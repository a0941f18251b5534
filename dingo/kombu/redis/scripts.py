"""The scripts that Redis carries out: each is one step of sending, claiming, settling or looking.

What they share stands first; each has the parts of it that it uses. The keys are described in `dingo.kombu.redis`.
"""

from __future__ import annotations

import re
from hashlib import sha1

# Reports nobody collects are thrown out after this time; a batch may be repeated within it (seconds).
REPLY_SECONDS = 3600

_SHARED = f"""
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

local function reply_of(data)
  local id, name, reply = struct.unpack('>I4I4I4', data)
  return string.sub(data, 13 + id + name, 12 + id + name + reply)
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

-- Lets go of the key of a unique call (see dingo.kombu.redis.ledger).
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


def _with_shared(text: str) -> str:
    """Put in front what a script uses, and what that uses: a server runs through all of a script each time."""
    for part in reversed(_SHARED.strip().split("\n\n")):
        (names,) = re.findall(r"^local (?:function )?(\w+(?:, \w+)*)", part, re.MULTILINE)[:1]
        if re.search(rf"\b(?:{names.replace(', ', '|')})\b", text):
            text = f"{part}\n\n{text}"
    return text


class Script:
    """A Lua script, known to the server by its digest."""

    def __init__(self, text: str) -> None:
        self.text = _with_shared(text)
        self.digest = sha1(self.text.encode(), usedforsecurity=False).hexdigest()


SEND = Script("""
-- ARGV: producer, number of this batch, 1 if it may have been sent before, 1 if it was sent before that one's answer
-- had come which is before it, then groups: prefix, priority, 1 if its stream is to be written down, name, how many,
-- then due, id, data of each. Returns the indexes of what is there already.
local sent, number = 'dingo:sent:' .. ARGV[1], tonumber(ARGV[2])
local last = (ARGV[3] == '1' or ARGV[4] == '1') and tonumber(redis.call('GET', sent) or 0)
if ARGV[3] == '1' and last >= number then return {} end
-- One that was refused would count as carried out else, as soon as the next one is.
if ARGV[4] == '1' and last ~= number - 1 then return redis.error_reply('ERR the batch before this was not taken') end
local time, at, index, rung, known_calls = nil, 5, 0, {}, {}
while at <= #ARGV do
  local prefix, priority, new, name, count = unpack(ARGV, at, at + 4)
  at = at + 5
  registers = new == '1'
  for _ = 1, tonumber(count) do
    local due = ARGV[at]
    if due ~= '' then time = time or clock() end
    local id, data = ARGV[at + 1], ARGV[at + 2]
    if put(true, prefix, 'tasks', priority, due, time, id, name, data, '') then
      rung[prefix] = true
    else
      known_calls[#known_calls + 1] = index
    end
    at, index = at + 3, index + 1
  end
end
for prefix in pairs(rung) do ring(prefix) end
redis.call('SET', sent, ARGV[2], 'EX', REPLY_SECONDS)
return known_calls
""")

CLAIM = Script("""
-- ARGV: owner, number of this claim, lease ('' if it was renewed a moment ago), room, then the prefixes. Returns in
-- how many ms to look again (0: something is left, -1: nothing is known to be due), and what was claimed.
go_on_without_memory()
local owner, room, time = ARGV[1], tonumber(ARGV[4]), clock()
if tonumber(ARGV[2]) < tonumber(redis.call('GET', 'dingo:claims:' .. owner) or 0) then return {-1, {}} end
if ARGV[3] ~= '' then redis.call('ZADD', 'dingo:workers', 'NX', time + ARGV[3], owner) end

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

local function goes_on(stream, entry) return redis.call('XREAD', 'COUNT', 1, 'STREAMS', stream, entry) and true end

local wait, claimed = -1, {}
for at = 5, #ARGV do
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
    if count == room and goes_on(stream, got[2][count][1]) then
      left_over = true
    else
      redis.call('ZREM', prefix .. 'levels', stream)
    end
    room = room - count
  end
  if left_over then
    wait = 0
    ring(prefix)
  else
    redis.call('DEL', prefix .. 'bell')
  end
  if next then
    local left = math.max(1, math.ceil((next - time) * 1000))
    if wait < 0 or left < wait then wait = left end
  end
end
return {wait, claimed}
""")

FINISH = Script("""
-- Settles what ended with one report each or none, the most of all.
-- ARGV: groups: stream, name, reply, keep, the reports as a pack, 1 if the time of who collects them is to be renewed,
-- how many, then entry, id, report of each
go_on_without_memory()
local at, before, stale = 1, 0, {}

local function place_of(stream, entry) return 'w' .. entry .. ' ' .. stream end

local function keep_one(stream, entry, id, name, keep, frame)
  local old = redis.call('SET', 'dingo:call:' .. id, record(name, 'e' .. frame), 'PX', keep, 'GET')
  if old and old ~= record(name, place_of(stream, entry)) then  -- other calls have the same id
    note(id, old, name, 'e' .. frame, keep)
  end
end

local function forget_all(stream, entries, ids, name)
  local keys, alone = {}, {}
  for index, id in ipairs(ids) do keys[index] = 'dingo:call:' .. id end
  for index, old in ipairs(redis.call('MGET', unpack(keys))) do
    if old == record(name, place_of(stream, entries[index])) then
      alone[#alone + 1] = keys[index]
    elseif old then  -- other calls have the same id
      note(ids[index], old, name)
    end
  end
  if #alone > 0 then redis.call('DEL', unpack(alone)) end
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
  local ended, ids = {}, {}
  for index = 1, count do
    local entry, id, frame = entries[index], ARGV[at + 1], ARGV[at + 2]
    if not gone[index] and keep ~= '' then
      keep_one(stream, entry, id, name, keep, frame)
    elseif not gone[index] then
      ended[#ended + 1], ids[#ids + 1] = entry, id
    end
    at = at + 3
  end
  if #ids > 0 then forget_all(stream, ended, ids, name) end
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

SETTLE = Script("""
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

REPORT = Script("""
-- ARGV: the reports
go_on_without_memory()
local packs = {}
take_reports(1, #ARGV / 5, packs)
publish(packs)
return 1
""")

STARTING = Script("""
-- ARGV: stream, entry, starts so far
go_on_without_memory()
local pending = redis.pcall('XPENDING', ARGV[1], 'dingo', ARGV[2], ARGV[2], 1)
if pending.err or #pending == 0 then return ARGV[3] + 1 end
local starts, place = string.match(ARGV[1], '^(.*:)%a+:%d$') .. 'starts', ARGV[2] .. ' ' .. ARGV[1]
redis.call('HSETNX', starts, place, ARGV[3])
return redis.call('HINCRBY', starts, place, 1)
""")

TEND = Script("""
-- ARGV: owner, lease, then what need not be stopped any more. Returns what is to be stopped.
go_on_without_memory()
redis.call('ZADD', 'dingo:workers', clock() + ARGV[2], ARGV[1])
for at = 3, #ARGV do redis.call('SREM', 'dingo:stop:' .. ARGV[1], ARGV[at]) end
return redis.call('SMEMBERS', 'dingo:stop:' .. ARGV[1])
""")

REAP = Script("""
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

RELEASE = Script("""
-- ARGV: owner, the number from which on its claims count, 1 if it ends, then what it keeps
go_on_without_memory()
local keep = {}
for at = 4, #ARGV do keep[ARGV[at]] = true end
-- What it asked for before, without an answer, is not to be carried out any more, however late it comes.
redis.call('SET', 'dingo:claims:' .. ARGV[1], ARGV[2], 'EX', REPLY_SECONDS)
local count = release(ARGV[1], false, keep)
if ARGV[3] == '1' then dismiss(ARGV[1]) end
return count
""")

FETCH = Script("""
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

CANCEL = Script("""
-- ARGV: id, name, the final report of one that is withdrawn ('': none), for how many ms it is kept. Returns
-- 0: there is none, 1: it is withdrawn, 2: its worker is asked to stop it.
go_on_without_memory()
local id, name, frame, keep = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local value, data = what_of(id, name), nil
if not value or string.byte(value) == 101 then return 0 end
local entry, where = string.match(value, '^w(%S+) (.*)$')
if not entry then
  where = string.sub(value, 2)
  local held = redis.call('HGET', where .. 'held', member(id, name))
  data = held and string.sub(held, 3 + string.byte(held, 2))
  redis.call('ZREM', where .. 'later', member(id, name))
  redis.call('HDEL', where .. 'held', member(id, name))
else
  local pending = redis.pcall('XPENDING', where, 'dingo', entry, entry, 1)
  if not pending.err and #pending > 0 then
    redis.call('SADD', 'dingo:stop:' .. pending[1][2], string.sub(value, 2))
    return 2
  end
  local found = redis.call('XRANGE', where, entry, entry)[1]
  data = found and found[2][2]
  redis.call('XDEL', where, entry)
end
know(id, name, nil)
if frame ~= '' then
  if keep > 0 then keep_report(id, name, keep, frame) end
  local reply = data and reply_of(data) or ''
  if reply ~= '' then publish({[reply] = {struct.pack('>I4', #frame) .. frame}}) end
end
return 1
""")

UNKNOWN = Script("""
-- ARGV: id and name of each call. Returns the indexes of those that neither wait nor run nor have ended.
local unknown = {}
for at = 1, #ARGV, 2 do
  if not what_of(ARGV[at], ARGV[at + 1]) then unknown[#unknown + 1] = (at - 1) / 2 end
end
return unknown
""")

FORGET = Script("""
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
