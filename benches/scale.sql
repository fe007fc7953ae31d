-- What reading costs beside 1,000,000 workspaces and 10,000,000 entries. Into an empty database that `weir migrate` was pointed at, of a
-- private server that may lose everything (fsync = off; about 9 GB):
--
--   psql -f benches/scale.sql -v entries=10000000 -v workspaces=1000000 DATABASE
--
-- It fills the schema as it is, a tenth of all entries in one workspace and the rest spread evenly, and then says of each read path which
-- indexes answer it and in how long. The statements are those of src/ledger/sql.rs, with what they are asked for put in; read each `EXPLAIN`
-- twice if the first one had to fetch pages from the disk.
\set ON_ERROR_STOP on
\set began 1788220800000000
\set ends 1796083200000000
\set month 1793491200000000
ALTER TABLE entry DROP CONSTRAINT entry_pkey;
DROP INDEX entry_by_record, entry_by_time, entry_by_user;
INSERT INTO workspace (workspace_id, plan_id, seats, status, calendar, overrides, version, created_at, updated_at)
SELECT 'ws-' || n, 'plan-1', '{"now":1,"earlier":[]}', 'active', '{"setting":{"timezone":"UTC","billing_anchor_day":1},"handovers":[]}', '{}', 1, :began, :began FROM generate_series(1, :workspaces) AS n;
INSERT INTO entry
SELECT 'ent_' || md5(n::text), 'usage', NULL, 'request-' || n, 'rsv_' || md5('r' || n),
       'ws-' || CASE WHEN n % 10 = 0 THEN 1 ELSE 1 + (n::BIGINT * 7919) % :workspaces END, 'user-' || (n / 10) % 1000,
       (ARRAY['chat', 'search', 'summaries'])[1 + n % 3], 'claude-sonnet-4-5', 'claude-sonnet-4-5', 'standard', 'anthropic', 'interactive',
       1, 4521, 0, 0, 0, 387, 0, 0, 0, 0, false, 1842, 'success', true, false, 19368000, 19368000, 4908, 19368000, 1, 0, '2026-01-01',
       'plan-1', 1, :began + n * (7344000000000 / :entries), :began + n * (7344000000000 / :entries) + 1842000, '{}', NULL, NULL, NULL, '{}'
FROM generate_series(1, :entries) AS n;
INSERT INTO reservation_end SELECT reservation_id, workspace_id, request_id, 1, 'settled', entry_id, occurred_at FROM entry LIMIT 500000;
INSERT INTO counter_sum SELECT workspace_id, '*', '*', 'tokens', 'month', :month, :ends, sum(counted_tokens), 1
FROM entry WHERE occurred_at >= :month AND occurred_at < :ends GROUP BY 1;
INSERT INTO counter_sum SELECT workspace_id, user_id, '*', 'tokens', 'month', :month, :ends, sum(counted_tokens), 1
FROM entry WHERE workspace_id = 'ws-1' AND occurred_at >= :month AND occurred_at < :ends GROUP BY 1, 2;
ALTER TABLE entry ADD PRIMARY KEY (entry_id, occurred_at);
CREATE INDEX entry_by_time ON entry (workspace_id, occurred_at, entry_id, feature, model);
CREATE INDEX entry_by_user ON entry (workspace_id, user_id, occurred_at, entry_id, feature, model);
CREATE INDEX entry_by_record ON entry (recorded_at, entry_id);
VACUUM ANALYZE;
\ir scale_reads.sql
