-- The live KPI agree with a recount, whichever way the mirror is written.
SET client_min_messages = warning;

-- A recount by the server's own aggregates, against what pfa_kpi_stats() says;
-- texts, so that decimal places count too.
CREATE VIEW recount AS
    SELECT organization_id, category, source, count(*) AS record_count,
        sum(plan_cost)::text AS plan, sum(forecast_cost)::text AS forecast,
        sum(actual_cost)::text AS actual, avg(monthly_rate)::text AS rate,
        (sum(forecast_cost) - sum(plan_cost))::text AS forecast_variance,
        (sum(actual_cost) - sum(plan_cost))::text AS actual_variance
    FROM pfa_mirror WHERE NOT is_discontinued GROUP BY 1, 2, 3;
CREATE VIEW live AS
    SELECT organization_id, category, source, record_count,
        total_plan_cost::text, total_forecast_cost::text,
        total_actual_cost::text, avg_monthly_rate::text,
        forecast_variance::text, actual_variance::text
    FROM pfa_kpi_stats();
CREATE FUNCTION differs() RETURNS TABLE (side text, organization_id text,
    category text, source text, record_count bigint) LANGUAGE sql AS $$
    SELECT 'live', (a).organization_id, (a).category, (a).source, (a).record_count
        FROM (SELECT * FROM live EXCEPT ALL SELECT * FROM recount) a UNION ALL
    SELECT 'recount', (b).organization_id, (b).category, (b).source, (b).record_count
        FROM (SELECT * FROM recount EXCEPT ALL SELECT * FROM live) b UNION ALL
    SELECT 'verify', v.organization_id, v.category, v.source, NULL
        FROM pfa_kpi_verify() v
$$;

-- INSERT, with null keys and null and negative costs
INSERT INTO pfa_mirror (organization_id, data)
SELECT (ARRAY['RIO', 'LIMA'])[1 + i % 2], jsonb_build_object('pfaId', 'P' || i,
    'category', (ARRAY['Cranes', 'Lifts', NULL])[1 + i % 3],
    'source', (ARRAY['Rental', NULL])[1 + i / 2 % 2],
    'dor', (ARRAY['PROJECT', 'BEO', NULL])[1 + i / 4 % 3],
    'planCost', CASE WHEN i % 3 > 0 THEN (i - 40) * 1.25 END,
    'forecastCost', CASE WHEN i % 4 > 0 THEN (i - 50) * 2.5 END,
    'actualCost', CASE WHEN i % 8 = 0 THEN -i END,
    'monthlyRate', CASE WHEN i % 5 > 0 THEN i / 8.0 END,
    'isActualized', i % 8 = 0, 'isDiscontinued', i % 10 = 0)
FROM generate_series(1, 100) i;
SELECT * FROM differs();
SELECT category, source, record_count, total_plan_cost, total_actual_cost,
    avg_monthly_rate, forecast_variance, actual_variance
FROM pfa_kpi_stats('RIO') ORDER BY 1, 2;
SELECT count(*) FROM pfa_kpi_stats('nowhere');

-- UPDATE: of sums, of keys, into and out of what is counted, of nothing
UPDATE pfa_mirror SET data = data || '{"planCost": 12.345}' WHERE pfa_id < 'P3';
SELECT * FROM differs();
UPDATE pfa_mirror SET data = data || '{"category": "Pumps", "dor": null}'
WHERE organization_id = 'RIO' AND pfa_id > 'P7';
SELECT * FROM differs();
UPDATE pfa_mirror SET data = data || jsonb_build_object('isDiscontinued', NOT is_discontinued)
WHERE pfa_id LIKE 'P_5';
SELECT * FROM differs();
UPDATE pfa_mirror SET data = data WHERE organization_id = 'LIMA';
UPDATE pfa_mirror SET data = data WHERE false;
SELECT * FROM differs();
-- the key itself
UPDATE pfa_mirror SET organization_id = 'QUITO' WHERE pfa_id = 'P1';
SELECT * FROM differs();

-- ON CONFLICT, both ways of it in one statement; MERGE
INSERT INTO pfa_mirror (organization_id, data)
SELECT 'RIO', jsonb_build_object('pfaId', id, 'category', 'Upsert', 'planCost', 1)
FROM unnest(ARRAY['P2', 'P3', 'P900', 'P901']) id
ON CONFLICT (organization_id, pfa_id) DO UPDATE SET data = excluded.data;
SELECT * FROM differs();
MERGE INTO pfa_mirror m
USING (VALUES ('P5', 'update'), ('P7', 'delete'), ('P902', 'insert')) v(id, what)
ON m.organization_id = 'LIMA' AND m.pfa_id = v.id
WHEN MATCHED AND v.what = 'delete' THEN DELETE
WHEN MATCHED THEN UPDATE SET data = m.data || '{"forecastCost": 5.00}'
WHEN NOT MATCHED THEN INSERT (organization_id, data)
    VALUES ('LIMA', jsonb_build_object('pfaId', v.id, 'planCost', 3));
SELECT * FROM differs();

-- several statements of one with CTEs
WITH gone AS (DELETE FROM pfa_mirror WHERE pfa_id = 'P11' RETURNING data),
    changed AS (UPDATE pfa_mirror SET data = data || '{"planCost": 0}'
        WHERE pfa_id = 'P13' RETURNING 1)
INSERT INTO pfa_mirror (organization_id, data) SELECT 'RIO', data || '{"pfaId": "P903"}' FROM gone;
SELECT * FROM differs();

-- COPY
COPY pfa_mirror (organization_id, data) FROM stdin;
RIO	{"pfaId": "C1", "planCost": 1.5, "category": "Copied"}
RIO	{"pfaId": "C2", "planCost": 2.25, "category": "Copied"}
\.
SELECT * FROM differs();
SELECT record_count, total_plan_cost FROM pfa_kpi_stats('RIO') WHERE category = 'Copied';

-- DELETE; the scale of a sum is that of the values which are left
DELETE FROM pfa_mirror WHERE pfa_id = 'C2';
SELECT record_count, total_plan_cost FROM pfa_kpi_stats('RIO') WHERE category = 'Copied';
DELETE FROM pfa_mirror WHERE organization_id = 'LIMA' AND pfa_id > 'P5';
SELECT * FROM differs();

-- a role that replays changes
SET session_replication_role = replica;
UPDATE pfa_mirror SET plan_cost = 77.7, data = data || '{"planCost": 77.7}' WHERE pfa_id = 'P15';
RESET session_replication_role;
SELECT * FROM differs();

-- transactions and savepoints
BEGIN;
DELETE FROM pfa_mirror WHERE organization_id = 'RIO';
SELECT count(*) FROM pfa_kpi_stats('RIO');
SELECT * FROM differs();
SAVEPOINT a;
INSERT INTO pfa_mirror (organization_id, data) VALUES ('RIO', '{"pfaId": "S1", "planCost": 1}');
SELECT record_count FROM pfa_kpi_stats('RIO');
ROLLBACK TO a;
SELECT * FROM differs();
INSERT INTO pfa_mirror (organization_id, data) VALUES ('RIO', '{"pfaId": "S2", "planCost": 2}');
SELECT total_plan_cost FROM pfa_kpi_stats('RIO');
ROLLBACK;
SELECT * FROM differs();
BEGIN;
TRUNCATE pfa_mirror;
SELECT count(*) FROM pfa_kpi_stats();
INSERT INTO pfa_mirror (organization_id, data) VALUES ('RIO', '{"pfaId": "T1", "planCost": 1}');
SELECT * FROM differs();
ROLLBACK;
SELECT * FROM differs();

-- compaction changes nothing
SELECT pfa_kpi_compact() IS NOT NULL AS compacted;
SELECT * FROM differs();
UPDATE pfa_mirror SET data = data || '{"planCost": 1}';
SELECT pfa_kpi_compact() IS NOT NULL AS compacted;
SELECT * FROM differs();

-- verify does find what is wrong, and a recount mends it
ALTER TABLE pfa_mirror DISABLE TRIGGER pfa_mirror_kpi_delete;
DELETE FROM pfa_mirror WHERE organization_id = 'QUITO';
ALTER TABLE pfa_mirror ENABLE ALWAYS TRIGGER pfa_mirror_kpi_delete;
SELECT organization_id, facet, category, live, recounted FROM pfa_kpi_verify();
SELECT pfa_kpi_rebuild() = (SELECT count(*) FROM pfa_mirror) AS rebuilt;
SELECT * FROM differs();

-- organizations beside each other
TRUNCATE pfa_mirror;
SELECT * FROM pfa_kpi_stats();
SELECT * FROM differs();
DROP FUNCTION differs();
DROP VIEW live, recount;
