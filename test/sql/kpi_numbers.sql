-- Sums are exact, at the limits of numeric too; a sum that numeric cannot hold
-- fails where it is asked for, as sum() does, and never where a record is
-- written.
SET client_min_messages = warning;

CREATE FUNCTION put(id text, plan numeric, rate numeric DEFAULT NULL) RETURNS void LANGUAGE sql AS $$
    INSERT INTO pfa_mirror (organization_id, data)
    VALUES ('NUM', jsonb_build_object('pfaId', id, 'planCost', plan, 'monthlyRate', rate))
    ON CONFLICT (organization_id, pfa_id) DO UPDATE SET data = excluded.data
$$;
CREATE FUNCTION agrees() RETURNS boolean LANGUAGE sql AS $$
    SELECT (SELECT row(record_count, total_plan_cost::text, avg_monthly_rate::text)::text
            FROM pfa_kpi_stats('NUM'))
        IS NOT DISTINCT FROM
        (SELECT row(count(*), sum(plan_cost)::text, avg(monthly_rate)::text)::text
            FROM pfa_mirror WHERE organization_id = 'NUM' HAVING count(*) > 0)
        AND NOT EXISTS (SELECT FROM pfa_kpi_verify())
$$;

-- what fits the fast way and what does not, in turn
SELECT left(v::text, 30) AS v, put('a', v), agrees(), put('b', -v, v), agrees()
FROM unnest(ARRAY[0, 0.00, 1, -1, 0.1, 0.12345678, 0.123456789, 9999, 10000,
    99999999999999999999, 99999999999999999999.99999999,
    100000000000000000000, 1e40, -1e-40, 12345678901234567890.123456789012345,
    1e1000, 0.0001, 0.00010000, 1000000000000.5]::numeric[]) v;
-- trailing zeros of a value that has gone are gone
SELECT put('a', 1.5), put('b', 1.50000, 2);
SELECT total_plan_cost, avg_monthly_rate FROM pfa_kpi_stats('NUM');
SELECT put('b', 1.5, 2);
SELECT total_plan_cost, avg_monthly_rate, agrees() FROM pfa_kpi_stats('NUM');
-- an average shows as many digits as its values ask for, not as they once did
SELECT put('a', NULL, 1.00000000000000000000000001), put('b', NULL, 2), put('c', NULL, 2);
SELECT avg_monthly_rate, agrees() FROM pfa_kpi_stats('NUM');
SELECT put('a', NULL, 1);
SELECT avg_monthly_rate, agrees() FROM pfa_kpi_stats('NUM');
TRUNCATE pfa_mirror;

-- the limits: 131072 digits before the point, 16383 behind it
SELECT put('big', ('9' || repeat('0', 131071))::numeric);
SELECT length(total_plan_cost::text), agrees() FROM pfa_kpi_stats('NUM');
SELECT put('small', ('0.' || repeat('0', 16382) || '1')::numeric);
SELECT scale(total_plan_cost), agrees() FROM pfa_kpi_stats('NUM');
SELECT pfa_kpi_compact() IS NOT NULL AS compacted;
SELECT scale(total_plan_cost), agrees() FROM pfa_kpi_stats('NUM');
DELETE FROM pfa_mirror WHERE pfa_id = 'small';
SELECT scale(total_plan_cost), agrees() FROM pfa_kpi_stats('NUM');

-- beyond them: stored all the same
SELECT put('big2', ('9' || repeat('0', 131071))::numeric);
SELECT pfa_kpi_compact() IS NOT NULL AS compacted;
SELECT record_count FROM pfa_kpi_stats('NUM');
SELECT sum(plan_cost) FROM pfa_mirror;
SELECT put('big3', ('9' || repeat('0', 131071))::numeric);
SELECT pfa_kpi_compact() IS NOT NULL AS compacted;
DELETE FROM pfa_mirror WHERE pfa_id = 'big2';
SELECT put('big3', ('-8' || repeat('0', 131071))::numeric);
SELECT length(total_plan_cost::text), left(total_plan_cost::text, 3), agrees() FROM pfa_kpi_stats('NUM');
SELECT pfa_kpi_compact() IS NOT NULL AS compacted;
SELECT length(total_plan_cost::text), left(total_plan_cost::text, 3), agrees() FROM pfa_kpi_stats('NUM');
DELETE FROM pfa_mirror;
SELECT pfa_kpi_compact() IS NOT NULL AS compacted;
SELECT count(*) FROM pfa_kpi_stats('NUM');
SELECT agrees();

-- keys of any length, and texts that look like none
INSERT INTO pfa_mirror (organization_id, data)
SELECT 'NUM', jsonb_build_object('pfaId', 'k' || n, 'dor', v, 'category', left(v, 200), 'planCost', n)
FROM unnest(ARRAY[NULL, '', ' ', 'NULL', repeat('long ', 20000), 'Größe', 'größe']) WITH ORDINALITY AS u(v, n);
SELECT count(*) FROM pfa_kpi_stats('NUM');
SELECT * FROM pfa_kpi_verify();
SELECT pfa_kpi_compact() IS NOT NULL AS compacted;
SELECT left(category, 10), record_count, total_plan_cost FROM pfa_kpi_stats('NUM') ORDER BY total_plan_cost;
SELECT * FROM pfa_kpi_verify();
TRUNCATE pfa_mirror;
DROP FUNCTION put, agrees;
