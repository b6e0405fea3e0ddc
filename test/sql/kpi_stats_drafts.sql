-- pfa_stats() is of the organization as its caller sees it: own drafts, and
-- what anybody has committed, over the mirror; nobody else's drafts.
SET client_min_messages = error;
CREATE ROLE regress_pfa_ann;
CREATE ROLE regress_pfa_bob;
CREATE ROLE regress_pfa_eve;
SELECT pfa_grant_access(r, 'editor') FROM unnest('{regress_pfa_ann,regress_pfa_bob,regress_pfa_eve}'::name[]) r;
INSERT INTO pfa_user_organization (user_id, organization_id, role) VALUES
    ('regress_pfa_ann', 'DOC', 'editor'), ('regress_pfa_bob', 'DOC', 'editor'),
    ('regress_pfa_eve', 'OTHER', 'editor');
INSERT INTO pfa_mirror (organization_id, data)
SELECT o, jsonb_build_object('pfaId', 'P' || lpad(i::text, 2, '0'),
    'category', (ARRAY['Cranes', 'Lifts', NULL])[1 + i % 3],
    'source', (ARRAY['Rental', 'Purchase'])[1 + i % 2],
    'dor', (ARRAY['PROJECT', 'BEO'])[1 + i / 4 % 2],
    'monthlyRate', i * 1000, 'purchasePrice', i * 50,
    'originalStart', '2026-01-01', 'originalEnd', '2026-03-02',
    'forecastStart', '2026-01-01', 'forecastEnd', '2026-04-01',
    'planCost', i * 100, 'forecastCost', i * 150.5,
    'isActualized', i % 8 = 0, 'isDiscontinued', i % 10 = 0, 'isFundsTransferable', i % 3 = 0)
FROM generate_series(1, 40) i, unnest(ARRAY['DOC', 'OTHER']) o;

-- The document against a recount of all records as the caller sees them.
CREATE FUNCTION agrees() RETURNS TABLE (shown bigint, differ bigint) LANGUAGE sql AS $$
    WITH document AS (SELECT pfa_stats('DOC') AS d),
    seen AS (SELECT * FROM pfa_merged_live WHERE organization_id = 'DOC'),
    recount AS (
        SELECT what, label, count(*) AS n, sum(plan_cost) AS p, sum(forecast_cost) AS f,
            sum(actual_cost) AS a, avg(monthly_rate) AS r
        FROM seen, LATERAL (VALUES ('byCategory', category), ('bySource', source),
            ('byDor', dor), ('totals', NULL)) v(what, label)
        WHERE NOT is_discontinued GROUP BY 1, 2),
    numbers AS (
        SELECT key AS what, coalesce(e->>'category', e->>'source', e->>'dor') AS label,
            (e->>'recordCount')::bigint AS n, (e->>'planCost')::numeric AS p,
            (e->>'forecastCost')::numeric AS f, (e->>'actualCost')::numeric AS a,
            (e->>'avgMonthlyRate')::numeric AS r
        FROM document, jsonb_each(d), jsonb_array_elements(CASE WHEN key LIKE 'by%' THEN value
            WHEN key = 'totals' THEN jsonb_build_array(value) ELSE '[]' END) e),
    states AS (SELECT jsonb_build_object('total', count(*),
            'active', count(*) FILTER (WHERE NOT is_discontinued),
            'discontinued', count(*) FILTER (WHERE is_discontinued),
            'actualized', count(*) FILTER (WHERE is_actualized AND NOT is_discontinued),
            'notActualized', count(*) FILTER (WHERE NOT is_actualized AND NOT is_discontinued),
            'fundsTransferable', count(*) FILTER (WHERE is_funds_transferable AND NOT is_discontinued)) AS s,
        jsonb_build_object('modified', count(*) FILTER (WHERE sync_state = 'modified'),
            'pending_sync', count(*) FILTER (WHERE sync_state = 'pending_sync'),
            'syncing', 0, 'conflict', 0, 'error', 0) AS y FROM seen)
    SELECT count(n.n), count(*) FILTER (WHERE n.n IS NULL OR x.n IS NULL)
        + (SELECT count(*) FROM states, document WHERE s <> d->'countsByState' OR y <> d->'countsBySyncState')
    FROM numbers n FULL JOIN recount x
        ON x.what = n.what AND x.label IS NOT DISTINCT FROM n.label AND x.n = n.n AND x.p = n.p
        AND x.f = n.f AND x.a IS NOT DISTINCT FROM n.a AND x.r = n.r
$$;
GRANT EXECUTE ON FUNCTION agrees() TO regress_pfa_ann, regress_pfa_bob;

SET ROLE regress_pfa_ann;
SELECT * FROM agrees();
SELECT pfa_draft('DOC', '[
    {"pfaId": "P01", "delta": {"category": "Pumps"}},
    {"pfaId": "P02", "delta": {"category": null, "source": "Purchase"}},
    {"pfaId": "P03", "delta": {"forecastEnd": "2027-04-01"}},
    {"pfaId": "P04", "delta": {"monthlyRate": 12345.678, "dor": "OWNER"}},
    {"pfaId": "P05", "delta": {"isDiscontinued": true}},
    {"pfaId": "P10", "delta": {"isDiscontinued": false}},
    {"pfaId": "P11", "delta": {"manufacturer": "Liebherr"}},
    {"pfaId": "P12", "delta": {"isFundsTransferable": false}}]') ? 'saved' AS saved;
SELECT * FROM agrees();
SELECT jsonb_pretty(pfa_stats('DOC') - '{byCategory,bySource,byDor}'::text[]);
-- the mirror's numbers are everybody's
SELECT sum(record_count) FROM pfa_kpi_stats('DOC') WHERE category = 'Pumps';
RESET ROLE;

SET ROLE regress_pfa_bob;
SELECT pfa_stats('DOC')->'countsBySyncState' AS nothing_of_anns;
SELECT * FROM agrees();
SELECT pfa_draft('DOC', '[{"pfaId": "P01", "delta": {"category": "Trucks"}},
    {"pfaId": "P03", "delta": {"forecastStart": "2025-04-01"}}]') ? 'saved' AS saved;
SELECT * FROM agrees();
SELECT pfa_commit('DOC') IS NOT NULL AS committed;
SELECT * FROM agrees();
RESET ROLE;

-- bob's is laid under ann's
SET ROLE regress_pfa_ann;
SELECT * FROM agrees();
SELECT pfa_stats('DOC')->'countsBySyncState' AS states;
SELECT pfa_discard('DOC', NULL, NULL, true) IS NOT NULL AS discarded;
SELECT * FROM agrees();
-- nobody else's organization
SELECT pfa_stats('OTHER');
SELECT * FROM pfa_kpi_stats('OTHER');
SELECT * FROM pfa_timeline_bounds('OTHER');
SELECT DISTINCT organization_id FROM pfa_kpi_stats();
RESET ROLE;
-- the scheduler may be at it
DO $$ BEGIN
    WHILE (SELECT count(*) FROM mv_pfa_timeline_bounds
        WHERE organization_id IN ('DOC', 'OTHER') AND record_count = 40) <> 2 LOOP
        PERFORM pfa_refresh_mv();
        COMMIT;
    END LOOP;
END $$;
SET ROLE regress_pfa_ann;
SELECT organization_id, record_count FROM pfa_timeline_bounds();
RESET ROLE;
SET ROLE regress_pfa_eve;
SELECT organization_id, record_count FROM pfa_timeline_bounds();
SELECT DISTINCT organization_id FROM pfa_kpi_stats();
SELECT pfa_stats('DOC');
RESET ROLE;

-- a record that has left the mirror counts for nothing
SET ROLE regress_pfa_ann;
SELECT pfa_draft('DOC', '[{"pfaId": "P20", "delta": {"category": "Pumps"}}]') ? 'saved' AS saved;
RESET ROLE;
DELETE FROM pfa_mirror WHERE pfa_id = 'P20';
SET ROLE regress_pfa_ann;
SELECT * FROM agrees();
RESET ROLE;

DELETE FROM pfa_modification;
DELETE FROM pfa_user_organization;
TRUNCATE pfa_mirror;
DROP FUNCTION agrees();
SELECT pfa_revoke_access(r) FROM unnest('{regress_pfa_ann,regress_pfa_bob,regress_pfa_eve}'::name[]) r;
DROP ROLE regress_pfa_ann, regress_pfa_bob, regress_pfa_eve;
