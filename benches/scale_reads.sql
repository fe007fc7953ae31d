-- The read paths, on a database that benches/scale.sql filled.
-- As the service sets it.
SET jit = off;
\set began 1788220800000000
\set ends 1796083200000000
\echo == a workspace
EXPLAIN (ANALYZE, COSTS OFF) SELECT * FROM workspace WHERE workspace_id = 'ws-500000';
\echo == rows of a group (usage, rebuild): one of many workspaces, and the largest
EXPLAIN (ANALYZE, COSTS OFF) SELECT * FROM counter_sum WHERE workspace_id = 'ws-500000' AND user_id = '*' AND period_end > 1795000000000000;
EXPLAIN (ANALYZE, COSTS OFF) SELECT * FROM counter_sum WHERE workspace_id = 'ws-1' AND user_id = 'user-7' AND period_end > 1795000000000000;
\echo == how a reservation stands
EXPLAIN (ANALYZE, COSTS OFF) SELECT * FROM reservation_end WHERE reservation_id = 'rsv_' || md5('r77');
\echo == a page of the ledger: one of many, the largest, its last page, one user of it, one feature of it
EXPLAIN (ANALYZE, COSTS OFF) SELECT * FROM entry WHERE workspace_id = 'ws-500000' AND occurred_at >= :began AND (occurred_at, entry_id) < (:ends, '') ORDER BY occurred_at DESC, entry_id DESC LIMIT 101;
EXPLAIN (ANALYZE, COSTS OFF) SELECT * FROM entry WHERE workspace_id = 'ws-1' AND occurred_at >= :began AND (occurred_at, entry_id) < (:ends, '') ORDER BY occurred_at DESC, entry_id DESC LIMIT 101;
EXPLAIN (ANALYZE, COSTS OFF) SELECT * FROM entry WHERE workspace_id = 'ws-1' AND occurred_at >= :began AND (occurred_at, entry_id) < (1788230000000000, '') ORDER BY occurred_at DESC, entry_id DESC LIMIT 101;
EXPLAIN (ANALYZE, COSTS OFF) SELECT * FROM entry WHERE workspace_id = 'ws-1' AND occurred_at >= :began AND (occurred_at, entry_id) < (:ends, '') AND user_id = 'user-7' ORDER BY occurred_at DESC, entry_id DESC LIMIT 101;
EXPLAIN (ANALYZE, COSTS OFF) SELECT * FROM entry WHERE workspace_id = 'ws-1' AND occurred_at >= :began AND (occurred_at, entry_id) < (:ends, '') AND feature = 'chat' ORDER BY occurred_at DESC, entry_id DESC LIMIT 101;
\echo == what was recorded since (sweep)
EXPLAIN (ANALYZE, COSTS OFF) SELECT recorded_at, entry_id, workspace_id, user_id, feature, occurred_at AS at FROM entry WHERE (recorded_at, entry_id) > (1795000000000000, '') ORDER BY recorded_at, entry_id LIMIT 500;
\echo == a page of verify: 500 sums of many workspaces, of one user of the largest, and the largest sum there is
EXPLAIN (ANALYZE, COSTS OFF) SELECT counter.workspace_id, spent, (SELECT CAST(SUM(part.counted_tokens) AS BIGINT) FROM entry AS part WHERE part.workspace_id = counter.workspace_id AND counter.feature IN ('*', part.feature) AND part.occurred_at >= counter.period_start AND part.occurred_at < counter.period_end) FROM (SELECT * FROM counter_sum WHERE (workspace_id, user_id, feature, period_end, period_kind, period_start, unit) > ('ws-5', '', '', 0, '', 0, '') ORDER BY workspace_id, user_id, feature, period_end, period_kind, period_start, unit LIMIT 500) AS counter;
EXPLAIN (ANALYZE, COSTS OFF) SELECT SUM(counted_tokens) FROM entry AS part WHERE workspace_id = 'ws-1' AND user_id = 'user-7' AND occurred_at >= 1793491200000000 AND occurred_at < :ends;
EXPLAIN (ANALYZE, COSTS OFF) SELECT SUM(counted_tokens) FROM entry AS part WHERE workspace_id = 'ws-1' AND occurred_at >= 1793491200000000 AND occurred_at < :ends;
\echo == a page of ends, and of entries, held against each other
EXPLAIN (ANALYZE, COSTS OFF) SELECT standing.reservation_id, entry.workspace_id FROM (SELECT * FROM reservation_end WHERE reservation_id > 'rsv_8' ORDER BY reservation_id LIMIT 500) AS standing LEFT JOIN entry ON entry.entry_id = standing.entry_id AND entry.occurred_at = standing.entry_occurred_at ORDER BY standing.reservation_id;
EXPLAIN (ANALYZE, COSTS OFF) SELECT entry.recorded_at, entry.entry_id, standing."end" FROM (SELECT recorded_at, entry_id, workspace_id, reservation_id FROM entry WHERE (recorded_at, entry_id) > (1790000000000000, '') ORDER BY recorded_at, entry_id LIMIT 500) AS entry LEFT JOIN reservation_end AS standing ON standing.reservation_id = entry.reservation_id ORDER BY entry.recorded_at, entry.entry_id;
