#!lua
-- The epoch: a process that becomes primary, by its start or by a promotion, draws a new replication id.
local info = call('INFO', 'replication')
local _, info_place = string.find(info, 'master_replid:', 1, true)
epoch = sub(info, info_place + 1, info_place + 40)
