-- pfa_stats(): the document, against a recount.
SET client_min_messages = warning;
SELECT jsonb_pretty(pfa_stats('nowhere'));
INSERT INTO pfa_mirror (organization_id, data)
SELECT 'DOC', jsonb_build_object('pfaId', 'P' || i,
    'category', (ARRAY['Cranes', 'Lifts', NULL])[1 + i % 3],
    'source', (ARRAY['Rental', 'Purchase'])[1 + i % 2],
    'dor', (ARRAY['PROJECT', 'BEO', NULL])[1 + i / 4 % 3],
    'planCost', i, 'forecastCost', i * 1.5,
    'actualCost', CASE WHEN i % 8 = 0 THEN i * 2 END, 'monthlyRate', i * 10,
    'isActualized', i % 8 = 0, 'isDiscontinued', i % 10 = 0, 'isFundsTransferable', i % 3 = 0)
FROM generate_series(1, 40) i;
SELECT jsonb_pretty(pfa_stats('DOC') - '{byCategory,bySource,byDor}'::text[]);
SELECT b->>'dor' AS dor, b->'recordCount' AS records, b->'planCost' AS plan,
    b->'forecastVariance' AS forecast_variance, b->'actualVariance' AS actual_variance
FROM jsonb_array_elements(pfa_stats('DOC')->'byDor') b;
-- each breakdown, number by number
WITH document AS (SELECT pfa_stats('DOC') AS d),
recount AS (
    SELECT what, label, count(*) AS n, sum(plan_cost) AS p, sum(forecast_cost) AS f,
        sum(actual_cost) AS a, avg(monthly_rate) AS r
    FROM pfa_mirror, LATERAL (VALUES ('byCategory', 'category', category),
        ('bySource', 'source', source), ('byDor', 'dor', dor)) v(what, name, label)
    WHERE organization_id = 'DOC' AND NOT is_discontinued GROUP BY 1, 2),
shown AS (
    SELECT key AS what, coalesce(e->>'category', e->>'source', e->>'dor') AS label,
        (e->>'recordCount')::bigint AS n, (e->>'planCost')::numeric AS p,
        (e->>'forecastCost')::numeric AS f, (e->>'actualCost')::numeric AS a,
        (e->>'avgMonthlyRate')::numeric AS r
    FROM document, jsonb_each(d), jsonb_array_elements(CASE WHEN key LIKE 'by%' THEN value ELSE '[]' END) e)
SELECT count(*) AS shown, count(*) FILTER (WHERE x.n IS NULL OR s.n IS NULL) AS differ
FROM shown s FULL JOIN recount x
    ON x.what = s.what AND x.label IS NOT DISTINCT FROM s.label AND x.n = s.n AND x.p = s.p
    AND x.f = s.f AND x.a IS NOT DISTINCT FROM s.a AND x.r = s.r;
SELECT pfa_stats(NULL) IS NULL AS strict;
TRUNCATE pfa_mirror;
