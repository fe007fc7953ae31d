-- A batch of posts that knows where something is to be told: `post_batch` as it was, word for word, but that its posts say of the counters that
-- they name below which sum nothing is (`named_floor`; NULL: nothing ever is). A batch that leaves a sum there is refused as a whole with a
-- code of its own, and its writer does it again in a transaction in which it tells what was reached. So batches that reach nothing, which
-- are nearly all, stay one call that commits by itself.
CREATE FUNCTION level_is_reached() RETURNS TEXT LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    RAISE EXCEPTION 'a level of a budget is reached, and nobody is there to tell it' USING ERRCODE = 'WE001';
END $$;

CREATE FUNCTION post_batch_watched(
    workspaces TEXT[],
    post_workspace TEXT[], post_reservation TEXT[], post_request TEXT[], post_revision BIGINT[], post_end TEXT[], post_entry TEXT[],
    post_entry_at BIGINT[], post_fingerprint TEXT[],
    entry_post INT[], entry_doc JSON[],
    open_post INT[], open_doc JSON[],
    use_post INT[], use_workspace TEXT[], use_user TEXT[], use_feature TEXT[], use_at BIGINT[], use_tokens BIGINT[], use_usd BIGINT[],
    use_requests BIGINT[], use_credits BIGINT[],
    named_post INT[], named_workspace TEXT[], named_user TEXT[], named_feature TEXT[], named_unit TEXT[], named_kind TEXT[],
    named_start BIGINT[], named_end BIGINT[], named_floor BIGINT[]
) RETURNS TABLE (
    answer TEXT, posts INT[], workspace_id TEXT, user_id TEXT, feature TEXT, unit TEXT, period_kind TEXT, period_start BIGINT,
    period_end BIGINT, spent BIGINT, version BIGINT, paid BIGINT
) LANGUAGE plpgsql VOLATILE
-- Plans are made once: over partitions that takes longer than the work of a batch. They must not be those of tables that were empty then.
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    found_workspaces TEXT[];
    is_absent BOOLEAN;
    is_done BOOLEAN[]; -- By post. An element of such an array is found without walking it.
    done_workspaces TEXT[];
    is_missing BOOLEAN;
    old_post INT[]; old_workspace TEXT[]; old_user TEXT[]; old_feature TEXT[]; old_at BIGINT[]; old_tokens BIGINT[]; old_usd BIGINT[];
    old_requests BIGINT[]; old_credits BIGINT[];
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'post_batch_watched must run at READ COMMITTED, not at %', current_setting('transaction_isolation')
            USING HINT = 'A snapshot from before the lock would lose rows without an error.';
    END IF;

    -- Locked, in order. Nothing else is read in this statement.
    found_workspaces := ARRAY(
        SELECT locked.workspace_id FROM (
            SELECT w.workspace_id FROM workspace AS w WHERE w.workspace_id = ANY (workspaces) ORDER BY w.workspace_id FOR NO KEY UPDATE
        ) AS locked
    );
    is_absent := cardinality(found_workspaces) < cardinality(workspaces);

    -- Decided.
    WITH post AS MATERIALIZED (
        SELECT * FROM unnest(post_workspace, post_reservation, post_request, post_revision, post_end, post_entry, post_entry_at,
            post_fingerprint) WITH ORDINALITY
            AS post (workspace_id, reservation_id, request_id, revision, "end", entry_id, entry_occurred_at, fingerprint, n)
    ), begun AS (
        INSERT INTO reservation_end (reservation_id, workspace_id, request_id, revision, "end", entry_id, entry_occurred_at, fingerprint)
        SELECT post.reservation_id, post.workspace_id, post.request_id, 1, post."end", post.entry_id, post.entry_occurred_at,
            post.fingerprint
        FROM post
        WHERE post.reservation_id IS NOT NULL AND post.revision = 0 AND (NOT is_absent OR post.workspace_id = ANY (found_workspaces))
        ORDER BY post.reservation_id
        ON CONFLICT (reservation_id) DO NOTHING
        RETURNING reservation_id
    ), gone_on AS (
        UPDATE reservation_end AS stands SET revision = stands.revision + 1, "end" = COALESCE(post."end", stands."end"),
            entry_id = COALESCE(post.entry_id, stands.entry_id),
            entry_occurred_at = COALESCE(post.entry_occurred_at, stands.entry_occurred_at), fingerprint = post.fingerprint
        FROM post
        WHERE stands.reservation_id = post.reservation_id AND stands.workspace_id = post.workspace_id
            AND post.revision > 0 AND stands.revision = post.revision
        RETURNING stands.reservation_id
    ), judged AS (
        SELECT post.n, post.workspace_id, CASE
            WHEN post.reservation_id IS NULL THEN NOT is_absent OR post.workspace_id = ANY (found_workspaces)
            ELSE post.reservation_id IN (SELECT begun.reservation_id FROM begun UNION ALL SELECT gone_on.reservation_id FROM gone_on)
            END AS is_done
        FROM post
    )
    SELECT array_agg(judged.is_done ORDER BY judged.n), array_agg(DISTINCT judged.workspace_id) FILTER (WHERE judged.is_done)
        INTO is_done, done_workspaces
        FROM judged;

    -- Recorded.
    IF cardinality(entry_post) > 0 THEN
        INSERT INTO entry
            SELECT written.*
            FROM unnest(entry_post, entry_doc) AS item (post, doc), json_populate_record(NULL::entry, item.doc) AS written
            WHERE is_done[item.post];
    END IF;

    -- Replaced: what an earlier checkpoint counted is taken away again.
    IF 0 < ANY (post_revision) THEN
        WITH replaced AS (
            DELETE FROM checkpoint AS c
            USING unnest(post_reservation, post_revision) WITH ORDINALITY AS post (reservation_id, revision, n)
            WHERE c.reservation_id = post.reservation_id AND post.revision > 0 AND is_done[post.n]
            RETURNING post.n::INT AS n, c.*
        )
        SELECT array_agg(r.n), array_agg(r.workspace_id), array_agg(r.user_id), array_agg(r.feature), array_agg(r.occurred_at),
            array_agg(-r.counted_tokens), array_agg(-r.counted_usd), array_agg(-r.counted_requests), array_agg(-r.counted_credits)
            INTO old_post, old_workspace, old_user, old_feature, old_at, old_tokens, old_usd, old_requests, old_credits
            FROM replaced AS r;
    END IF;
    IF cardinality(open_post) > 0 THEN
        INSERT INTO checkpoint
            SELECT written.*
            FROM unnest(open_post, open_doc) AS item (post, doc), json_populate_record(NULL::checkpoint, item.doc) AS written
            WHERE is_done[item.post];
    END IF;

    -- Counted: the rows that are there decide which ones are met.
    RETURN QUERY
    WITH used AS (
        SELECT * FROM unnest(use_post || old_post, use_workspace || old_workspace, use_user || old_user, use_feature || old_feature,
            use_at || old_at, use_tokens || old_tokens, use_usd || old_usd, use_requests || old_requests, use_credits || old_credits)
            AS used (post, workspace_id, user_id, feature, at, tokens, usd, requests, credits)
        WHERE is_done[used.post]
    ), met AS (
        SELECT used.post, c.*, CASE c.unit WHEN 'tokens' THEN used.tokens WHEN 'usd' THEN used.usd WHEN 'requests' THEN used.requests
            ELSE used.credits END AS part, NULL::BIGINT AS floor
        FROM used
        -- Pairs, looked up one by one (OFFSET keeps the planner from merging them into the join): with conditions on both at once it would
        -- choose by the size of an average workspace, and walk a large one.
        CROSS JOIN LATERAL (VALUES ('*', '*'), ('*', used.feature), (used.user_id, '*'), (used.user_id, used.feature))
            AS pair (user_id, feature)
        CROSS JOIN LATERAL (
            SELECT * FROM counter_sum AS s
            WHERE s.workspace_id = used.workspace_id AND s.user_id = pair.user_id AND s.feature = pair.feature
                AND s.period_end > used.at AND s.period_start <= used.at
            OFFSET 0
        ) AS c
        UNION ALL
        SELECT named.post, c.*, 0, named.floor
        FROM unnest(named_post, named_workspace, named_user, named_feature, named_unit, named_kind, named_start, named_end, named_floor)
            AS named (post, workspace_id, user_id, feature, unit, period_kind, period_start, period_end, floor)
        JOIN counter_sum AS c USING (workspace_id, user_id, feature, period_end, period_kind, period_start, unit)
        WHERE is_done[named.post]
    ), parts AS MATERIALIZED (
        SELECT array_agg(DISTINCT met.post) AS posts, met.workspace_id, met.user_id, met.feature, met.unit, met.period_kind,
            met.period_start, met.period_end, met.spent, met.version, met.paid, SUM(met.part) AS part, MIN(met.floor) AS floor
        FROM met
        GROUP BY met.workspace_id, met.user_id, met.feature, met.unit, met.period_kind, met.period_start, met.period_end, met.spent,
            met.version, met.paid
    ), summed AS MATERIALIZED (
        SELECT parts.posts, parts.workspace_id, parts.user_id, parts.feature, parts.unit, parts.period_kind, parts.period_start,
            parts.period_end, CAST(parts.spent + parts.part AS BIGINT) AS spent,
            CASE parts.part WHEN 0 THEN parts.version ELSE w.sum_version + 1 END AS version, parts.paid,
            parts.part <> 0 AS is_moved, parts.floor
        FROM parts JOIN workspace AS w ON w.workspace_id = parts.workspace_id
    ), moved AS (
        UPDATE counter_sum AS c SET spent = summed.spent, version = summed.version FROM summed
        WHERE summed.is_moved AND c.workspace_id = summed.workspace_id AND c.user_id = summed.user_id AND c.feature = summed.feature
            AND c.period_end = summed.period_end AND c.period_kind = summed.period_kind AND c.period_start = summed.period_start
            AND c.unit = summed.unit
    )
    SELECT CASE WHEN summed.spent >= summed.floor THEN level_is_reached() ELSE 'row' END, summed.posts, summed.workspace_id, summed.user_id, summed.feature, summed.unit, summed.period_kind, summed.period_start,
        summed.period_end, summed.spent, summed.version, summed.paid
    FROM summed;

    -- Born: in statements of their own again, so that they sum up what this batch has recorded. Most batches give birth to none, and are
    -- spared the look at every month.
    is_missing := EXISTS (
        SELECT FROM unnest(named_post, named_workspace, named_user, named_feature, named_unit, named_kind, named_start, named_end)
            AS named (post, workspace_id, user_id, feature, unit, period_kind, period_start, period_end)
        WHERE is_done[named.post] AND NOT EXISTS (
            SELECT FROM counter_sum AS c WHERE c.workspace_id = named.workspace_id AND c.user_id = named.user_id
                AND c.feature = named.feature AND c.period_end = named.period_end AND c.period_kind = named.period_kind
                AND c.period_start = named.period_start AND c.unit = named.unit
        )
    );
    IF is_missing THEN
        RETURN QUERY
        WITH counter AS MATERIALIZED (
            SELECT array_agg(DISTINCT named.post) AS posts, named.workspace_id, named.user_id, named.feature, named.unit, named.period_kind,
                named.period_start, named.period_end, MIN(named.floor) AS floor
            FROM unnest(named_post, named_workspace, named_user, named_feature, named_unit, named_kind, named_start, named_end, named_floor)
                AS named (post, workspace_id, user_id, feature, unit, period_kind, period_start, period_end, floor)
            WHERE is_done[named.post] AND NOT EXISTS (
                SELECT FROM counter_sum AS c WHERE c.workspace_id = named.workspace_id AND c.user_id = named.user_id
                    AND c.feature = named.feature AND c.period_end = named.period_end AND c.period_kind = named.period_kind
                    AND c.period_start = named.period_start AND c.unit = named.unit
            )
            GROUP BY 2, 3, 4, 5, 6, 7, 8
        ), summed AS MATERIALIZED (
            SELECT counter.*,
                -- The definition of spent, word for word as `ledger verify` has it.
                COALESCE(CASE counter.user_id WHEN '*' THEN (
                    SELECT CAST(SUM(CASE counter.unit WHEN 'tokens' THEN counted_tokens WHEN 'usd' THEN counted_usd
                        WHEN 'requests' THEN counted_requests ELSE counted_credits END) AS BIGINT) FROM entry AS part
                    WHERE part.workspace_id = counter.workspace_id AND true AND counter.feature IN ('*', part.feature)
                        AND part.occurred_at >= counter.period_start AND part.occurred_at < counter.period_end
                ) ELSE (
                    SELECT CAST(SUM(CASE counter.unit WHEN 'tokens' THEN counted_tokens WHEN 'usd' THEN counted_usd
                        WHEN 'requests' THEN counted_requests ELSE counted_credits END) AS BIGINT) FROM entry AS part
                    WHERE part.workspace_id = counter.workspace_id AND part.user_id = counter.user_id
                        AND counter.feature IN ('*', part.feature)
                        AND part.occurred_at >= counter.period_start AND part.occurred_at < counter.period_end
                ) END, 0) + COALESCE((
                    SELECT CAST(SUM(CASE counter.unit WHEN 'tokens' THEN counted_tokens WHEN 'usd' THEN counted_usd
                        WHEN 'requests' THEN counted_requests ELSE counted_credits END) AS BIGINT) FROM checkpoint AS part
                    WHERE part.workspace_id = counter.workspace_id AND counter.user_id IN ('*', part.user_id)
                        AND counter.feature IN ('*', part.feature)
                        AND part.occurred_at >= counter.period_start AND part.occurred_at < counter.period_end
                ), 0) AS spent,
                w.sum_version + 1 AS version
            FROM counter JOIN workspace AS w ON w.workspace_id = counter.workspace_id
        ), born AS (
            INSERT INTO counter_sum (workspace_id, user_id, feature, unit, period_kind, period_start, period_end, spent, version)
            SELECT s.workspace_id, s.user_id, s.feature, s.unit, s.period_kind, s.period_start, s.period_end, s.spent, s.version
            FROM summed AS s
        )
        SELECT CASE WHEN s.spent >= s.floor THEN level_is_reached() ELSE 'row' END, s.posts, s.workspace_id, s.user_id, s.feature, s.unit,
            s.period_kind, s.period_start, s.period_end, s.spent, s.version, 0::BIGINT
        FROM summed AS s;
    END IF;

    UPDATE workspace AS w SET sum_version = w.sum_version + 1 WHERE w.workspace_id = ANY (done_workspaces);

    -- Told.
    IF false = ANY (is_done) THEN
        RETURN QUERY
        SELECT CASE WHEN post.revision > 0 OR NOT is_absent OR post.workspace_id = ANY (found_workspaces) THEN 'stands' ELSE 'absent' END,
            array_agg(post.n::INT), '', '', '', '', '', 0::BIGINT, 0::BIGINT, 0::BIGINT, 0::BIGINT, 0::BIGINT
        FROM unnest(post_workspace, post_revision) WITH ORDINALITY AS post (workspace_id, revision, n)
        WHERE NOT is_done[post.n]
        GROUP BY 1;
    END IF;
END $$;
