-- pfa_get: filters, order, pages, cursors, and what it refuses.
INSERT INTO pfa_organization (organization_id, pems_organization, server_name, owner, sync_interval,
        paused, system_identifier, database_oid)
    SELECT o, o, 'none', 'none', '1 day', true, 1, 1 FROM unnest('{PAGE,PAGE2}'::text[]) o;
INSERT INTO pfa_mirror (organization_id, pfa_id, data)
    SELECT o, 'P' || lpad(i::text, 2, '0'), jsonb_build_object('pfaId', 'P' || lpad(i::text, 2, '0'),
        'category', (ARRAY['Cranes', 'Pumps', 'Trucks', NULL])[1 + i % 4], 'class', 'C' || i % 3,
        'monthlyRate', CASE WHEN i % 5 > 0 THEN 100 * (i % 5) END, 'description', 'Größe ' || i,
        'forecastStart', CASE WHEN i % 6 > 0 THEN '2025-0' || i % 6 || '-01' END,
        'forecastEnd', CASE WHEN i % 7 > 0 THEN '2025-1' || i % 3 || '-01' END,
        'isActualized', i % 2 = 0, 'isDiscontinued', i % 10 = 0)
    FROM unnest('{PAGE,PAGE2}'::text[]) o, generate_series(1, 20) i;
CREATE FUNCTION pg_temp.ids(answer jsonb) RETURNS text LANGUAGE sql AS $$
    SELECT format('%s of %s%s', coalesce((SELECT string_agg(e->>'pfaId', ' ' ORDER BY n)
            FROM jsonb_array_elements(answer->'data') WITH ORDINALITY x (e, n)), 'none'),
        answer->'pagination'->'totalRecords',
        CASE WHEN answer->'pagination'->>'nextCursor' IS NOT NULL THEN ', more' ELSE '' END) $$;

SELECT pfa_get('PAGE', '{"category": "Pumps"}', 1) #- '{data,0,data}' #- '{pagination,nextCursor}' AS shape;
SELECT pg_temp.ids(pfa_get('PAGE'));
-- each filter
SELECT f, pg_temp.ids(pfa_get('PAGE', f::jsonb)) FROM unnest(ARRAY[
    '{"category": "Pumps"}', '{"category": ["Pumps", "Cranes", "none"]}', '{"category": "pumps"}', '{"class": "C1", "category": "Pumps"}',
    '{"isActualized": true}', '{"isDiscontinued": true}', '{"isDiscontinued": false, "category": "Cranes"}',
    '{"isFundsTransferable": true}', '{"isFundsTransferable": false, "class": "C0"}',
    '{"forecastFrom": "2025-03-01"}', '{"forecastTo": "2025-10-31"}', '{"forecastFrom": "2025-02-01", "forecastTo": "2025-11-01", "isDiscontinued": false}',
    '{"searchText": "größe 1"}', '{"searchText": "GRÖSSE"}', '{"searchText": "TRUCK"}', '{"searchText": ""}', '{"searchText": "%"}',
    '{"dor": "BEO"}', '{"source": "Rental"}', '{"areaSilo": "x"}', '{"manufacturer": "x"}', '{"model": ["x"]}',
    '{"syncState": "pristine", "class": "C0"}', '{"syncState": ["modified", "conflict"]}']) f;
-- order: no value comes last, ties go by pfaId
SELECT pg_temp.ids(pfa_get('PAGE', '{}', 100, NULL, 'pfaId', 'desc'));
SELECT pg_temp.ids(pfa_get('PAGE', '{}', 100, NULL, 'monthlyRate'));
SELECT pg_temp.ids(pfa_get('PAGE', '{}', 100, NULL, 'monthlyRate', 'desc'));
SELECT pg_temp.ids(pfa_get('PAGE', '{}', 100, NULL, 'category', 'desc'));
SELECT pg_temp.ids(pfa_get('PAGE', '{}', 100, NULL, 'forecastStart'));
SELECT pg_temp.ids(pfa_get('PAGE', '{}', 100, NULL, 'isActualized', 'desc'));

-- pages: each record once, whatever the order and size
CREATE FUNCTION pg_temp.walk(filters jsonb, page_size int, sort_by text, sort_order text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    answer jsonb; cursor text; ids text[] := '{}'; whole text[];
BEGIN
    LOOP
        answer := pfa_get('PAGE', filters, page_size, cursor, sort_by, sort_order);
        ids := ids || ARRAY(SELECT e->>'pfaId' FROM jsonb_array_elements(answer->'data') WITH ORDINALITY x (e, n) ORDER BY n);
        cursor := answer->'pagination'->>'nextCursor';
        EXIT WHEN cursor IS NULL;
        IF cardinality(ids) > 1000 THEN RAISE EXCEPTION 'no end'; END IF;
    END LOOP;
    whole := ARRAY(SELECT e->>'pfaId' FROM jsonb_array_elements(pfa_get('PAGE', filters, 1000, NULL, sort_by, sort_order)->'data')
        WITH ORDINALITY x (e, n) ORDER BY n);
    RETURN CASE WHEN ids = whole AND cardinality(ids) = (answer->'pagination'->>'totalRecords')::int THEN 'same' ELSE ids::text END;
END $$;
SELECT pg_temp.walk(f::jsonb, s, b, o), count(*) FROM unnest('{"{}","{\"class\": \"C1\"}"}'::text[]) f, unnest('{1,3,7,20,21}'::int[]) s,
    unnest('{pfaId,category,monthlyRate,forecastEnd,isActualized,model}'::text[]) b, unnest('{asc,desc}'::text[]) o GROUP BY 1;

-- a draft moves a record to another place, and there alone
SELECT pfa_draft('PAGE', '[{"pfaId": "P01", "delta": {"category": "Trucks", "monthlyRate": 150}}, {"pfaId": "P05", "delta": {"model": "M"}}]') IS NOT NULL AS saved;
SELECT pg_temp.ids(pfa_get('PAGE', '{"category": "Pumps"}')), pg_temp.ids(pfa_get('PAGE', '{"category": "Trucks"}')), pg_temp.ids(pfa_get('PAGE2', '{"category": "Pumps"}'));
SELECT pg_temp.ids(pfa_get('PAGE', '{}', 100, NULL, 'monthlyRate'));
SELECT pg_temp.ids(pfa_get('PAGE', '{"syncState": "modified"}')), pg_temp.ids(pfa_get('PAGE', '{"syncState": ["pristine"]}', 1));
SELECT pg_temp.ids(pfa_get('PAGE', '{"model": "M"}')), pg_temp.ids(pfa_get('PAGE', '{"searchText": "m"}', 2));
SELECT pg_temp.walk(f::jsonb, s, b, o), count(*) FROM unnest('{"{}","{\"class\": \"C1\"}","{\"category\": \"Trucks\"}"}'::text[]) f, unnest('{1,3,7,20,21}'::int[]) s,
    unnest('{pfaId,category,monthlyRate,forecastEnd,isActualized,model}'::text[]) b, unnest('{asc,desc}'::text[]) o GROUP BY 1;

-- a cursor outlives what syncs do: its record may go, others come
SELECT pfa_get('PAGE', '{}', 5) #>> '{pagination,nextCursor}' AS cursor \gset
DELETE FROM pfa_mirror WHERE organization_id = 'PAGE' AND pfa_id = 'P05';
INSERT INTO pfa_mirror (organization_id, pfa_id, data) VALUES ('PAGE', 'P055', '{"pfaId": "P055"}'), ('PAGE', 'P00', '{"pfaId": "P00"}');
SELECT pg_temp.ids(pfa_get('PAGE', '{}', 5, :'cursor'));

-- cursors that are none
\set VERBOSITY default
SELECT pfa_get('PAGE', '{}', 5, 'P05');
SELECT pfa_get('PAGE', '{}', 5, '');
SELECT pfa_get('PAGE', '{}', 5, left(:'cursor', -1)) IS NULL AS failed;
SELECT pfa_get('PAGE', '{}', 5, 'pfa') IS NULL AS failed;
SELECT pfa_get('PAGE', '{}', 5, 'pfa' || repeat('A', 100)) IS NULL AS failed;
\set VERBOSITY terse
SELECT pfa_get('PAGE', '{}', 5, :'cursor', 'pfaId', 'desc');
SELECT pfa_get('PAGE', '{}', 5, :'cursor', 'category');
SELECT pfa_get('PAGE', '{"class": "C1"}', 5, :'cursor');
SELECT pfa_get('PAGE2', '{}', 5, :'cursor');
\set VERBOSITY default
-- arguments
SELECT pfa_get(NULL);
SELECT pfa_get('PAGE', NULL);
SELECT pfa_get('NOWHERE');
SELECT pfa_get('PAGE', '[]');
SELECT pfa_get('PAGE', '{"Category": "Pumps"}');
SELECT pfa_get('PAGE', '{"category": 1}');
SELECT pfa_get('PAGE', '{"category": null}');
SELECT pfa_get('PAGE', '{"category": []}');
SELECT pfa_get('PAGE', '{"category": ["a", 1]}');
SELECT pfa_get('PAGE', '{"category": {"a": 1}}');
SELECT pfa_get('PAGE', '{"isActualized": "Y"}');
SELECT pfa_get('PAGE', '{"forecastFrom": "01/02/2025"}');
SELECT pfa_get('PAGE', '{"forecastTo": 20250101}');
SELECT pfa_get('PAGE', '{"syncState": "draft"}');
SELECT pfa_get('PAGE', '{"searchText": 1}');
SELECT pfa_get('PAGE', '{}', 0);
SELECT pfa_get('PAGE', '{}', 1001);
SELECT pfa_get('PAGE', '{}', NULL);
SELECT pfa_get('PAGE', '{}', 5, NULL, 'description');
SELECT pfa_get('PAGE', '{}', 5, NULL, NULL);
SELECT pfa_get('PAGE', '{}', 5, NULL, 'class', 'up');
SELECT pfa_get('PAGE', '{}', 5, NULL, 'class', NULL);

DELETE FROM pfa_modification WHERE organization_id = 'PAGE';
DELETE FROM pfa_mirror WHERE organization_id LIKE 'PAGE%';
DELETE FROM pfa_organization WHERE organization_id LIKE 'PAGE%';
