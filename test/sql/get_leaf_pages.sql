-- pfa_get reads leaf pages by itself: what it finds is what a plain query finds,
-- whatever the pages hold.
SET pfa_vanguard.cache_backend = off;
INSERT INTO pfa_organization (organization_id, pems_organization, server_name, owner, sync_interval,
        paused, system_identifier, database_oid)
    SELECT o, o, 'none', 'none', '1 day', true, 1, 1 FROM unnest('{LEAF0,LEAF1,LEAF2}'::text[]) o;
-- short ids and long ones, of one length and of many; categories that are stored
-- with a short header, with a long one, and compressed; none
CREATE FUNCTION pg_temp.id(i int) RETURNS text LANGUAGE sql AS $$
    SELECT CASE i % 4 WHEN 0 THEN 'R' || lpad(i::text, 6, '0') WHEN 1 THEN 'R' || i WHEN 2 THEN 'S' || repeat(md5(i::text), 1 + i % 5)
        ELSE 'T' || repeat('t', i % 900) || i END $$;
CREATE FUNCTION pg_temp.category(i int) RETURNS text LANGUAGE sql AS $$
    SELECT (ARRAY['A', 'B', repeat('long ', 25), repeat('long ', 26), repeat('compressed ', 80), NULL, ''])[1 + i % 7] $$;
INSERT INTO pfa_mirror (organization_id, pfa_id, data)
    SELECT o, pg_temp.id(i), jsonb_build_object('pfaId', pg_temp.id(i), 'category', pg_temp.category(i), 'isDiscontinued', i % 3 = 0)
    FROM unnest('{LEAF0,LEAF1,LEAF2}'::text[]) o, generate_series(1, 2500) i;
-- All pages of a list, one after the other, beside the same by a query.
CREATE FUNCTION pg_temp.walk(o text, filters jsonb, page_size int, direction text, OUT ids text[], OUT total bigint) LANGUAGE plpgsql AS $$
DECLARE
    page jsonb;
    next text;
BEGIN
    ids := '{}';
    LOOP
        page := pfa_get(o, filters, page_size, next, 'pfaId', direction);
        ids := ids || ARRAY(SELECT e ->> 'pfaId' FROM jsonb_array_elements(page -> 'data') WITH ORDINALITY x (e, n) ORDER BY n);
        IF total <> (page #>> '{pagination,totalRecords}')::bigint THEN
            RAISE EXCEPTION 'two totals';
        END IF;
        total := page #>> '{pagination,totalRecords}';
        next := page #>> '{pagination,nextCursor}';
        EXIT WHEN next IS NULL;
    END LOOP;
END $$;
CREATE FUNCTION pg_temp.plain(o text, filters jsonb, direction text) RETURNS text[] LANGUAGE sql AS $$
    SELECT coalesce(array_agg(pfa_id ORDER BY n), '{}') FROM (
        SELECT pfa_id, row_number() OVER (ORDER BY pfa_id) * CASE direction WHEN 'asc' THEN 1 ELSE -1 END AS n FROM pfa_merged_live
        WHERE organization_id = o AND (NOT filters ? 'category' OR category = filters ->> 'category')
            AND (NOT filters ? 'isDiscontinued' OR is_discontinued = (filters ->> 'isDiscontinued')::boolean)) x $$;
CREATE FUNCTION pg_temp.differences(o text DEFAULT 'LEAF1') RETURNS TABLE (lists bigint, ids bigint, differ bigint) LANGUAGE sql AS $$
    SELECT count(*), sum(total), count(*) FILTER (WHERE w.ids IS DISTINCT FROM pg_temp.plain(o, f, d) OR total <> cardinality(w.ids))
    FROM (SELECT '{}'::jsonb UNION ALL SELECT jsonb_build_object('category', pg_temp.category(i)) FROM generate_series(0, 6) i WHERE pg_temp.category(i) IS NOT NULL
        UNION ALL SELECT '{"category": "no such"}') x (c),
        unnest('{"{}","{\"isDiscontinued\": false}"}'::jsonb[]) y (g), LATERAL (SELECT c || g) z (f),
        unnest('{asc,desc}'::text[]) d, pg_temp.walk(o, f, 97, d) w $$;
SELECT * FROM pg_temp.differences();
-- with pages that are all visible
SELECT 'VACUUM pfa_mirror' FROM generate_series(1, 3) \gexec
SELECT * FROM pg_temp.differences();
-- several versions of each record
UPDATE pfa_mirror SET data = data || '{"description": "1"}' WHERE organization_id LIKE 'LEAF%';
UPDATE pfa_mirror SET data = data || '{"description": "2"}' WHERE organization_id LIKE 'LEAF%';
UPDATE pfa_mirror SET data = data || jsonb_build_object('category', pg_temp.category(hashtext(pfa_id) & 1023)) WHERE organization_id LIKE 'LEAF%' AND hashtext(pfa_id) % 10 = 0;
DELETE FROM pfa_mirror WHERE organization_id LIKE 'LEAF%' AND hashtext(pfa_id) % 10 = 1;
SELECT * FROM pg_temp.differences();
-- whole leaf pages are deleted
DELETE FROM pfa_mirror WHERE organization_id = 'LEAF1' AND pfa_id BETWEEN 'R001' AND 'R0022';
SELECT 'VACUUM pfa_mirror' FROM generate_series(1, 3) \gexec
SELECT * FROM pg_temp.differences();
-- drafts, of some texts at random, and of the columns at both ends of the masks
INSERT INTO pfa_modification (organization_id, pfa_id, user_id, base_version, base, delta)
    SELECT 'LEAF1', pfa_id, current_user, 1, '{}', CASE hashtext(pfa_id) % 3
        WHEN 0 THEN jsonb_build_object('category', pg_temp.category(hashtext(pfa_id) & 511))
        WHEN 1 THEN jsonb_build_object('isDiscontinued', length(pfa_id) % 2 = 0, 'isFundsTransferable', true)
        ELSE '{"forecastStart": "2026-01-01"}' END
    FROM pfa_mirror WHERE organization_id = 'LEAF1' AND hashtext(pfa_id) % 4 = 0;
-- of records that are gone
INSERT INTO pfa_modification (organization_id, pfa_id, user_id, base_version, base, delta)
    SELECT 'LEAF1', 'gone' || i, current_user, 1, '{}', '{"category": "B"}' FROM generate_series(1, 300) i;
SELECT * FROM pg_temp.differences();
-- under SERIALIZABLE
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT * FROM pg_temp.differences();
COMMIT;
-- names that the table has compressed, and the index so, too
INSERT INTO pfa_organization (organization_id, pems_organization, server_name, owner, sync_interval,
        paused, system_identifier, database_oid) VALUES ('LEAF' || repeat('ab', 29), 'LEAF', 'none', 'none', '1 day', true, 1, 1);
INSERT INTO pfa_mirror (organization_id, pfa_id, data)
    SELECT 'LEAF' || repeat('ab', 29), 'R' || i, jsonb_build_object('pfaId', 'R' || i, 'category', pg_temp.category(i)) FROM generate_series(1, 100) i;
INSERT INTO pfa_modification (organization_id, pfa_id, user_id, base_version, base, delta)
    SELECT 'LEAF' || repeat('ab', 29), 'R' || i, current_user, 1, d, d FROM generate_series(1, 100, 3) i, LATERAL (SELECT jsonb_build_object('category', pg_temp.category(i + 1),
        'description', string_agg(md5(i + n * 1000 || ''), '')) FROM generate_series(1, 36) n) x (d);
UPDATE pfa_modification SET version = 2 WHERE organization_id LIKE 'LEAFab%';
REINDEX TABLE pfa_modification;
SELECT pg_column_size(organization_id) < 40 AS compressed, count(*) FROM pfa_modification WHERE organization_id LIKE 'LEAFab%' GROUP BY 1;
SELECT * FROM pg_temp.differences('LEAF' || repeat('ab', 29));
-- an organization of no records
SELECT pfa_get('LEAF2', '{"category": "C"}') -> 'data' AS none;
DELETE FROM pfa_mirror WHERE organization_id LIKE 'LEAF%';
SELECT pfa_get('LEAF1') #>> '{pagination,totalRecords}' AS total;
DELETE FROM pfa_modification WHERE organization_id LIKE 'LEAF%';
DELETE FROM pfa_organization WHERE organization_id LIKE 'LEAF%';
