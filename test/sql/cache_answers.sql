-- What pfa_get, pfa_permissions and pfa_organization_config answer from the
-- cache, and that any way of changing the tables makes an end of it.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SERVER pems FOREIGN DATA WRAPPER pfa_pems OPTIONS (base_url 'https://pems.invalid', tenant 'ACME');
INSERT INTO pfa_organization (organization_id, pems_organization, server_name, owner, sync_interval, paused, system_identifier, database_oid)
    SELECT o, o, 'pems', current_user, '1 day', true, 0, 0 FROM unnest('{RIO,NYC}'::text[]) o;
INSERT INTO pfa_sync_state (organization_id, next_sync_at) VALUES ('RIO', now()), ('NYC', now());
INSERT INTO pfa_mirror (organization_id, data)
    SELECT o, jsonb_build_object('pfaId', 'P' || i, 'category', 'Cranes', 'description', o || ' ' || i)
    FROM unnest('{RIO,NYC}'::text[]) o, generate_series(1, 3) i;
INSERT INTO pfa_user_organization VALUES ('ann', 'RIO', 'editor'), ('ben', 'RIO', 'editor'), ('cyd', 'NYC', 'editor');
CREATE ROLE regress_pfa_app;
GRANT EXECUTE ON ROUTINE pfa_get, pfa_draft, pfa_commit, pfa_discard, pfa_cache_stats_rows TO regress_pfa_app;
GRANT SELECT ON pfa_cache_stats TO regress_pfa_app;
GRANT SET ON PARAMETER pfa_vanguard.user_id TO regress_pfa_app;

-- how a call was answered, and that a computed answer is the same
CREATE FUNCTION pg_temp.how(call text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    b pfa_cache_stats;
    a pfa_cache_stats;
    cached jsonb;
    computed jsonb;
BEGIN
    SELECT * INTO b FROM pfa_cache_stats WHERE keyspace = 'all';
    EXECUTE format('SELECT %s, set_config(''pfa_vanguard.cache_backend'', ''off'', false), %s, '
        'set_config(''pfa_vanguard.cache_backend'', ''shared_memory'', false)', call, call)
        INTO cached, a.keyspace, computed;
    SELECT * INTO a FROM pfa_cache_stats WHERE keyspace = 'all';
    RETURN CASE WHEN a.hits > b.hits THEN 'hit' WHEN a.misses > b.misses THEN 'miss'
        WHEN a.bypasses > b.bypasses THEN 'bypass' ELSE 'not asked' END ||
        CASE WHEN cached IS DISTINCT FROM computed THEN ', BUT WRONG' ELSE '' END;
END $$;
CREATE FUNCTION pg_temp.rio() RETURNS text LANGUAGE sql AS $$SELECT pg_temp.how('pfa_get(''RIO'')')$$;
CREATE FUNCTION pg_temp.nyc() RETURNS text LANGUAGE sql AS $$SELECT pg_temp.how('pfa_get(''NYC'')')$$;
-- after a statement: of the organization that it changes, and of the other one
CREATE PROCEDURE pg_temp.after(statement text) LANGUAGE plpgsql AS $$
DECLARE
    o text := '';
BEGIN
    PERFORM pg_temp.rio(), pg_temp.nyc();
    COMMIT;
    EXECUTE statement;
    COMMIT;
    o := pg_temp.rio() || ' then ' || pg_temp.rio() || ', other ' || pg_temp.nyc();
    RAISE WARNING '% | %', o, left(statement, 60);
END $$;

SELECT pg_temp.rio(), pg_temp.rio(), pg_temp.nyc(), pg_temp.nyc();

-- arguments are part of the key, in whatever order they are written
SELECT pg_temp.how(c) || ', ' || pg_temp.how(c) AS how, c FROM unnest(ARRAY[
    'pfa_get(''RIO'', ''{"category": "Cranes", "dor": "PROJECT"}'')',
    'pfa_get(''RIO'', ''{"category": "Cranes"}'')',
    'pfa_get(''RIO'', page_size => 2)',
    'pfa_get(''RIO'', page_size => 2, cursor => pfa_get(''RIO'', page_size => 2) #>> ''{pagination,nextCursor}'')',
    'pfa_get(''RIO'', sort_by => ''category'')',
    'pfa_get(''RIO'', sort_order => ''desc'')',
    'pfa_stats(''RIO'')', 'pfa_organization_config(''RIO'')', 'pfa_permissions()']) c;
SELECT pg_temp.how('pfa_get(''RIO'', ''{"dor":"PROJECT",  "category":"Cranes"}'')');

-- statistics are of the records, and a user's with drafts are that user's
UPDATE pfa_mirror SET data = data || '{"forecastCost": 5}' WHERE organization_id = 'RIO' AND pfa_id = 'P1';
SELECT pg_temp.how('pfa_stats(''RIO'')') || ', ' || pg_temp.how('pfa_stats(''RIO'')') AS how;
SELECT pfa_draft('RIO', '[{"pfaId": "P1", "delta": {"category": "Lifts"}}]') -> 'saved' -> 0 -> 'pfaId' AS drafted;
SELECT pg_temp.how('pfa_stats(''RIO'')') || ', ' || pg_temp.how('pfa_stats(''RIO'')') AS how;
SELECT pfa_cache_get('pfa:RIO:stats') <> pfa_cache_get('pfa:RIO:stats:user:' || pfa_current_user_id()) AS differ;
SELECT pfa_discard('RIO', discard_all => true) IS NOT NULL AS discarded;
SELECT pg_temp.how('pfa_stats(''RIO'')') || ', ' || pg_temp.how('pfa_stats(''RIO'')') AS how;

-- any way of writing
CALL pg_temp.after($$UPDATE pfa_mirror SET data = data || '{"x": 1}' WHERE organization_id = 'RIO' AND pfa_id = 'P1'$$);
CALL pg_temp.after($$DELETE FROM pfa_mirror WHERE organization_id = 'RIO' AND pfa_id = 'P3'$$);
CALL pg_temp.after($$INSERT INTO pfa_mirror (organization_id, data) VALUES ('RIO', '{"pfaId": "P3"}')$$);
CALL pg_temp.after($$INSERT INTO pfa_mirror (organization_id, data) VALUES ('RIO', '{"pfaId": "P3", "x": 2}')
    ON CONFLICT (organization_id, pfa_id) DO UPDATE SET data = excluded.data$$);
CALL pg_temp.after($$MERGE INTO pfa_mirror m USING (VALUES ('RIO', 'P3')) v (o, p) ON m.organization_id = v.o AND m.pfa_id = v.p
    WHEN MATCHED THEN UPDATE SET data = data || '{"x": 3}'$$);
CALL pg_temp.after($$COPY pfa_mirror (organization_id, data) FROM PROGRAM 'printf ''RIO\t{"pfaId": "P4"}\n'''$$);
CALL pg_temp.after($$WITH d AS (DELETE FROM pfa_mirror WHERE organization_id = 'RIO' AND pfa_id = 'P4' RETURNING 1) SELECT * FROM d$$);
CALL pg_temp.after($$UPDATE pfa_sync_state SET last_success_at = now() WHERE organization_id = 'RIO'$$);
CALL pg_temp.after($$DO 'BEGIN BEGIN UPDATE pfa_mirror SET data = data || ''{"x": 5}'' WHERE organization_id = ''RIO''; EXCEPTION WHEN division_by_zero THEN NULL; END; END'$$);
SET session_replication_role = replica;
CALL pg_temp.after($$UPDATE pfa_mirror SET data = data || '{"x": 6}' WHERE organization_id = 'RIO' AND pfa_id = 'P1'$$);
RESET session_replication_role;
-- changes for all
CALL pg_temp.after($$UPDATE pfa_field_mapping SET default_value = 'x' WHERE key = 'contract'$$);
CALL pg_temp.after($$TRUNCATE pfa_modification$$);
CALL pg_temp.after($$ALTER TABLE pfa_mirror ALTER COLUMN class SET STATISTICS 100$$);
-- changes that no page shows
CALL pg_temp.after($$UPDATE pfa_sync_state SET next_sync_at = now() WHERE organization_id = 'RIO'$$);
CALL pg_temp.after($$UPDATE pfa_organization SET sync_interval = '2 days'$$);
CALL pg_temp.after($$INSERT INTO pfa_user_organization VALUES ('dan', 'RIO', 'viewer')$$);
CALL pg_temp.after($$SELECT pfa_get('RIO')$$);
-- configuration and permissions
SELECT pg_temp.how('pfa_organization_config(''RIO'')'), pg_temp.how('pfa_organization_config(''RIO'')');
UPDATE pfa_field_mapping SET default_value = NULL WHERE key = 'contract';
SELECT pg_temp.how('pfa_organization_config(''RIO'')'), pg_temp.how('pfa_organization_config(''RIO'')');
UPDATE pfa_organization SET paused = NOT paused WHERE organization_id = 'RIO';
SELECT pg_temp.how('pfa_organization_config(''RIO'')');
SELECT pg_temp.how('pfa_permissions()'), pg_temp.how('pfa_permissions()');
INSERT INTO pfa_user_organization SELECT current_user, 'NYC', 'viewer';
SELECT pg_temp.how('pfa_permissions()'), pg_temp.how('pfa_permissions()');
DELETE FROM pfa_user_organization WHERE user_id = current_user;
SELECT pg_temp.how('pfa_permissions()');
-- several organizations in one transaction, and more than are counted singly
CALL pg_temp.after($$UPDATE pfa_mirror SET data = data || '{"x": 7}'$$);
INSERT INTO pfa_mirror (organization_id, data) SELECT 'ORG' || i, '{"pfaId": "1"}' FROM generate_series(1, 100) i;
CALL pg_temp.after($$UPDATE pfa_mirror SET data = data || '{"x": 8}' WHERE organization_id LIKE 'ORG%'$$);
DELETE FROM pfa_mirror WHERE organization_id LIKE 'ORG%';

-- rolled back, nothing is over; the transaction itself reads past the cache
SELECT pg_temp.rio(), pg_temp.nyc();
BEGIN;
SELECT pg_temp.rio();
UPDATE pfa_mirror SET data = data || '{"x": 9}' WHERE organization_id = 'RIO' AND pfa_id = 'P1';
SELECT pg_temp.rio(), pg_temp.rio(), pg_temp.nyc();
ROLLBACK;
SELECT pg_temp.rio(), pg_temp.nyc();
BEGIN;
SAVEPOINT s;
UPDATE pfa_mirror SET data = data || '{"x": 9}' WHERE organization_id = 'RIO' AND pfa_id = 'P1';
RELEASE s;
SELECT pg_temp.rio();
COMMIT;
SELECT pg_temp.rio();
BEGIN;
UPDATE pfa_mirror SET data = data || '{"x": 10}' WHERE organization_id = 'RIO' AND pfa_id = 'P1';
SELECT 1 / 0;
COMMIT;
SELECT pg_temp.rio();

-- other isolation levels
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT pg_temp.rio();
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT pg_temp.rio();
COMMIT;
BEGIN READ ONLY;
SELECT pg_temp.rio();
COMMIT;

-- without triggers nothing is cached, and nothing from before is used after
SELECT pg_temp.rio();
ALTER TABLE pfa_mirror DISABLE TRIGGER pfa_note_change;
UPDATE pfa_mirror SET data = data || '{"x": 11}' WHERE organization_id = 'RIO' AND pfa_id = 'P1';
SELECT pg_temp.rio(), pg_temp.rio();
ALTER TABLE pfa_mirror ENABLE TRIGGER pfa_note_change;
SELECT pg_temp.rio(), pg_temp.rio();
ALTER TABLE pfa_mirror ENABLE ALWAYS TRIGGER pfa_note_change;
SELECT pg_temp.rio(), pg_temp.rio();

-- users: those without drafts share a page, the others have their own
CREATE PROCEDURE pg_temp.who(users text[]) LANGUAGE plpgsql AS $$
DECLARE
    u text;
    before pfa_cache_stats;
    hits bigint;
    page jsonb;
BEGIN
    FOREACH u IN ARRAY users LOOP
        SET LOCAL ROLE regress_pfa_app;
        PERFORM set_config('pfa_vanguard.user_id', u, true);
        SELECT s.hits INTO hits FROM pfa_cache_stats s WHERE keyspace = 'data';
        BEGIN
            page := pfa_get('RIO', '{"category": "Cranes"}');
            RAISE WARNING '%: %, %', u, CASE WHEN (SELECT s.hits FROM pfa_cache_stats s WHERE keyspace = 'data') > hits
                THEN 'hit' ELSE 'miss' END, jsonb_path_query_array(page, '$.data[*].data.manufacturer');
        EXCEPTION WHEN insufficient_privilege THEN
            RAISE WARNING '%: %', u, sqlerrm;
        END;
        COMMIT;
    END LOOP;
END $$;
UPDATE pfa_mirror SET data = jsonb_build_object('pfaId', pfa_id, 'category', 'Cranes', 'manufacturer', organization_id || ' ' || pfa_id);
CALL pg_temp.who('{ann,ben,cyd}');
BEGIN;
SET LOCAL ROLE regress_pfa_app;
SET LOCAL pfa_vanguard.user_id = 'ann';
SELECT jsonb_array_length(pfa_draft('RIO', '[{"pfaId": "P1", "delta": {"manufacturer": "of ann"}}]') -> 'saved');
COMMIT;
CALL pg_temp.who('{ben,ann,ann,cyd,ben}');
BEGIN;
SET LOCAL ROLE regress_pfa_app;
SET LOCAL pfa_vanguard.user_id = 'ben';
SELECT jsonb_array_length(pfa_draft('RIO', '[{"pfaId": "P2", "delta": {"manufacturer": "of ben"}}]') -> 'saved');
COMMIT;
CALL pg_temp.who('{ann,ben,ben,cyd}');
BEGIN;
SET LOCAL ROLE regress_pfa_app;
SET LOCAL pfa_vanguard.user_id = 'ann';
SELECT pfa_commit('RIO') IS NOT NULL;
COMMIT;
CALL pg_temp.who('{ben,ann,ann,cyd}');
BEGIN;
SET LOCAL ROLE regress_pfa_app;
SET LOCAL pfa_vanguard.user_id = 'ben';
SELECT pfa_discard('RIO', discard_all => true) IS NOT NULL;
COMMIT;
CALL pg_temp.who('{ben,ann,cyd}');
-- who is no longer a member sees nothing, cached or not
DELETE FROM pfa_user_organization WHERE user_id = 'ben';
CALL pg_temp.who('{ann,ben}');

-- dropped and created again, nothing is left
SELECT pg_temp.rio();
DROP FUNCTION pg_temp.rio();
DROP EXTENSION pfa_vanguard CASCADE;
CREATE EXTENSION pfa_vanguard;
INSERT INTO pfa_organization (organization_id, pems_organization, server_name, owner, sync_interval, paused, system_identifier, database_oid)
    VALUES ('RIO', 'RIO', 'pems', current_user, '1 day', true, 0, 0);
SELECT pfa_get('RIO') #> '{pagination,totalRecords}' AS records;
SELECT pfa_permissions();
DELETE FROM pfa_organization;
REVOKE SET ON PARAMETER pfa_vanguard.user_id FROM regress_pfa_app;
DROP ROLE regress_pfa_app;
