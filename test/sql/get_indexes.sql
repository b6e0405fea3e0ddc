-- pfa_get and pfa_record read what they must, by index: the same for an
-- organization alone as among many others.
-- An answer from the cache reads nothing.
SET pfa_vanguard.cache_backend = off;
INSERT INTO pfa_organization (organization_id, pems_organization, server_name, owner, sync_interval,
        paused, system_identifier, database_oid)
    SELECT 'IX' || o, 'IX', 'none', 'none', '1 day', true, 1, 1 FROM generate_series(1, 20) o;
INSERT INTO pfa_mirror (organization_id, pfa_id, data)
    SELECT 'IX' || o, 'I' || lpad(i::text, 4, '0'), jsonb_build_object('pfaId', 'I' || lpad(i::text, 4, '0'),
        'category', 'C' || i % 10, 'forecastStart', '2025-01-' || lpad((1 + i % 28)::text, 2, '0'), 'isDiscontinued', i % 50 = 0)
    FROM generate_series(1, 20) o, generate_series(1, 1000) i;
INSERT INTO pfa_modification (organization_id, pfa_id, user_id, base_version, base, delta)
    SELECT 'IX' || o, 'I' || lpad(i::text, 4, '0'), u, 1, '{}',
        CASE WHEN i % 100 = 0 THEN '{"category": "C5"}' ELSE '{"forecastEnd": "2026-01-01"}' END::jsonb
    FROM generate_series(1, 20) o, generate_series(1, 1000, 3) i, unnest(ARRAY['other', current_user]) u;
-- several times, as a worker's snapshot may be in the way of one
SELECT 'VACUUM ANALYZE pfa_mirror, pfa_modification' FROM generate_series(1, 5) \gexec
-- what a call reads of a table: entries of indexes, rows of the heap, rows by sequential scan
CREATE FUNCTION pg_temp.reads(relation regclass, OUT entries bigint, OUT heap bigint, OUT seq bigint) LANGUAGE sql AS $$
    SELECT sum(pg_stat_get_xact_tuples_returned(indexrelid)), sum(pg_stat_get_xact_tuples_fetched(indexrelid)), pg_stat_get_xact_tuples_returned(relation)
    FROM pg_index WHERE indrelid = relation $$;
CREATE FUNCTION pg_temp.cost(what text) RETURNS TABLE (call text, relation text, entries text, heap text, seq bigint) LANGUAGE plpgsql AS $$
DECLARE
    r text; before record; a record; b record;
BEGIN
    SELECT * INTO a FROM pg_temp.reads('pfa_mirror');
    SELECT * INTO b FROM pg_temp.reads('pfa_modification');
    EXECUTE 'SELECT ' || what;
    FOREACH r IN ARRAY '{pfa_mirror,pfa_modification}'::text[] LOOP
        before := CASE r WHEN 'pfa_mirror' THEN a ELSE b END;
        RETURN QUERY SELECT what, r, '<= ' || ceil((x.entries - before.entries) / 50.0) * 50,
            '<= ' || ceil((x.heap - before.heap) / 50.0) * 50, x.seq - before.seq FROM pg_temp.reads(r) x;
    END LOOP;
END $$;
SELECT c.* FROM unnest(ARRAY[
    $$pfa_record('IX7', 'I0500')$$,
    $$pfa_get('IX7', '{"category": "C5"}', 20)$$,
    $$pfa_get('IX7', '{"category": "C5", "isDiscontinued": false}', 20)$$,
    $$pfa_get('IX7', '{"category": ["C5", "C6"]}', 20)$$,
    $$pfa_get('IX7', '{}', 20)$$,
    $$pfa_get('IX7', '{}', 20, NULL, 'pfaId', 'desc')$$,
    $$pfa_get('IX7', '{"syncState": "conflict"}', 20)$$]) x, pg_temp.cost(x) c;
-- an index that an administrator adds takes part
CREATE INDEX regress_pfa_class ON pfa_mirror (organization_id, forecast_start);
SELECT c.* FROM pg_temp.cost($$pfa_get('IX7', '{"forecastFrom": "2025-01-28"}', 20)$$) c;
DROP INDEX regress_pfa_class;
SELECT c.* FROM pg_temp.cost($$pfa_get('IX7', '{"forecastFrom": "2025-01-28"}', 20)$$) c;
SELECT c.* FROM pg_temp.cost($$pfa_get('IX7', '{"forecastFrom": "2025-01-28", "isDiscontinued": false}', 20)$$) c;
-- the view: the planner finds the indexes through it, under policies too
SET client_min_messages = error;
CREATE ROLE regress_pfa_index;
SELECT pfa_grant_access('regress_pfa_index', 'reader');
RESET client_min_messages;
INSERT INTO pfa_user_organization VALUES ('regress_pfa_index', 'IX7', 'viewer');
SET ROLE regress_pfa_index;
CREATE FUNCTION pg_temp.scans(query text, OUT by_index boolean, OUT whole boolean) LANGUAGE plpgsql AS $$
DECLARE
    plan json;
BEGIN
    EXECUTE 'EXPLAIN (COSTS OFF, FORMAT JSON) ' || query INTO plan;
    by_index := plan::text ~ '"Index Name": "(pfa_mirror_category|idx_pfa_org_category_source|pfa_mirror_pkey)"';
    whole := plan::text ~ '"Seq Scan",[^}]*"Relation Name": "pfa_mirror"';
END $$;
SELECT * FROM pg_temp.scans($$SELECT * FROM pfa_merged_live WHERE organization_id = 'IX7' AND category = 'C5' ORDER BY pfa_id LIMIT 20$$);
SELECT * FROM pg_temp.scans($$SELECT * FROM pfa_merged_live WHERE organization_id = 'IX7' AND pfa_id = 'I0001'$$);
SELECT * FROM pg_temp.scans($$SELECT * FROM pfa_mirror WHERE organization_id = 'IX7' AND pfa_id = 'I0001'$$);
RESET ROLE;

DELETE FROM pfa_modification WHERE organization_id LIKE 'IX%';
DELETE FROM pfa_mirror WHERE organization_id LIKE 'IX%';
DELETE FROM pfa_organization WHERE organization_id LIKE 'IX%';
DELETE FROM pfa_user_organization WHERE organization_id LIKE 'IX%';
DROP OWNED BY regress_pfa_index;
DROP ROLE regress_pfa_index;
