-- A record with drafts and committed changes over it.
INSERT INTO pfa_organization (organization_id, pems_organization, server_name, owner, sync_interval,
        paused, system_identifier, database_oid)
    VALUES ('MERGE', 'MERGE', 'none', 'none', '1 day', true, 1, 1);
INSERT INTO pfa_mirror (organization_id, pfa_id, data) VALUES
    ('MERGE', 'M1', '{"pfaId": "M1", "category": "Cranes", "source": "Rental", "monthlyRate": 3044, "purchasePrice": 100,
        "originalStart": "2025-01-01", "originalEnd": "2025-01-31", "forecastStart": "2025-01-01", "forecastEnd": "2025-01-31",
        "actualStart": "2025-01-01", "actualEnd": "2025-01-11", "isActualized": true, "isDiscontinued": false,
        "planCost": 3000.00, "forecastCost": 3000.00, "actualCost": 1000.00, "nested": {"a": [1, {"b": null}]}}'),
    ('MERGE', 'M2', '{"pfaId": "M2"}');
CREATE TEMP VIEW element AS SELECT r->>'syncState' AS state, r->>'modifiedBy' AS by,
    r->'modifiedAt' <> 'null' AS modified, r->'data' AS data FROM pfa_record('MERGE', 'M1') r;
CREATE FUNCTION pg_temp.draft(delta jsonb) RETURNS void LANGUAGE sql
AS $$ SELECT FROM (SELECT pfa_draft('MERGE', jsonb_build_array(jsonb_build_object('pfaId', 'M1', 'delta', delta)))) x $$;

-- untouched
SELECT pfa_record('MERGE', 'M1') = jsonb_build_object('pfaId', 'M1', 'data', (SELECT data FROM pfa_mirror WHERE pfa_id = 'M1'),
    'syncState', 'pristine', 'modifiedAt', NULL, 'modifiedBy', NULL) AS same;
SELECT pfa_record('MERGE', 'M2');
SELECT pfa_record('MERGE', 'M3') IS NULL AS none, pfa_record('MERGE', NULL) IS NULL AS null_id;

-- costs follow what they are computed from: half of the rate
SELECT pg_temp.draft('{"monthlyRate": 1522}');
SELECT state, by = current_user AS mine, modified, data->'planCost' AS plan, data->'forecastCost' AS forecast, data->'actualCost' AS actual FROM element;
-- only the period that changed
SELECT pg_temp.draft('{"monthlyRate": 3044, "forecastEnd": "2025-03-02"}');
SELECT data->'planCost' AS plan, data->'forecastCost' AS forecast, data->'actualCost' AS actual FROM element;
-- bought instead of rented; exact, and rounded half away from zero
SELECT pg_temp.draft('{"source": "Purchase", "purchasePrice": -10.005}');
SELECT data->'planCost' AS plan, data->'forecastCost' AS forecast, data->'actualCost' AS actual FROM element;
-- a missing term makes the cost null
SELECT pg_temp.draft('{"purchasePrice": null}');
SELECT data->'planCost' AS plan, data->'forecastCost' AS forecast, data->'actualCost' AS actual FROM element;
-- numbers beyond 64 bits
SELECT pg_temp.draft('{"source": "Rental", "monthlyRate": 123456789012345678901234567890.12, "forecastEnd": "2025-01-31"}');
SELECT data->'forecastCost' AS forecast, data->'forecastCost' = to_jsonb(round(30 * 123456789012345678901234567890.12 / 30.44, 2)) AS exact FROM element;
SELECT pg_temp.draft('{"monthlyRate": 0.005}');
SELECT data->'forecastCost' AS forecast FROM element;
-- a cost that PEMS delivers is not computed
INSERT INTO pfa_field_mapping (organization_id, pems_alias, key, kind) VALUES ('MERGE', 'pfs_f_cost', 'forecastCost', 'number');
SELECT data->'planCost' AS plan, data->'forecastCost' AS forecast FROM element;
DELETE FROM pfa_field_mapping WHERE organization_id = 'MERGE';
SELECT data->'planCost' AS plan, data->'forecastCost' AS forecast FROM element;
-- a key that the mirror's record lacks
SELECT pg_temp.draft('{"model": "X-1"}');
SELECT data->'model' AS model, data->'nested' AS nested, pg_input.t::jsonb = data AS valid FROM element, LATERAL (SELECT data::text AS t) pg_input;
SELECT pfa_discard('MERGE', discard_all => true) IS NOT NULL AS discarded;

-- layers: committed changes in their order, one's own draft on top
INSERT INTO pfa_modification (organization_id, pfa_id, user_id, base_version, base, delta, sync_state, committed_at) VALUES
    ('MERGE', 'M1', 'ann', 1, '{}', '{"category": "late", "class": "late", "model": "late"}', 'pending_sync', '2025-01-03'),
    ('MERGE', 'M1', 'bob', 1, '{}', '{"category": "early", "class": "early", "manufacturer": "early"}', 'syncing', '2025-01-02'),
    ('MERGE', 'M1', 'cid', 1, '{}', '{"category": "secret"}', 'modified', NULL);
SELECT state, by, data->'category' AS category, data->'class' AS class, data->'model' AS model, data->'manufacturer' AS manufacturer FROM element;
SELECT pg_temp.draft('{"category": "mine"}');
SELECT state, by = current_user AS mine, data->'category' AS category, data->'class' AS class FROM element;
SELECT pg_temp.draft('{"category": "late"}');
SELECT state, by, data->'category' AS category FROM element;
-- what waits for a decision, or was refused, is still there
UPDATE pfa_modification SET sync_state = 'conflict' WHERE organization_id = 'MERGE' AND user_id = 'ann';
SELECT state, by, data->'category' AS category FROM element;
UPDATE pfa_modification SET sync_state = 'error' WHERE organization_id = 'MERGE' AND user_id = 'ann';
SELECT state, by, data->'category' AS category FROM element;
-- what PEMS has taken is the mirror's; it shows where nothing else does
UPDATE pfa_modification SET sync_state = 'synced' WHERE organization_id = 'MERGE' AND user_id = 'ann';
SELECT state, by, data->'category' AS category, data->'model' AS model FROM element;
UPDATE pfa_modification SET sync_state = 'synced' WHERE organization_id = 'MERGE' AND user_id = 'bob';
SELECT state, by, data->'category' AS category, data->'planCost' AS plan FROM element;

-- the view says the same as the calls
SELECT pg_temp.draft('{"monthlyRate": 1522, "isDiscontinued": true}');
SELECT organization_id, pfa_id, sync_state, modified_by = current_user AS mine, category, monthly_rate, plan_cost, forecast_start, is_discontinued, version
    FROM pfa_merged_live WHERE organization_id = 'MERGE' ORDER BY pfa_id;
SELECT count(*) AS differences FROM pfa_merged_live v, pfa_record(organization_id, pfa_id) r
    WHERE organization_id = 'MERGE' AND (r->'data' <> v.data OR r->>'syncState' <> v.sync_state
        OR (r->>'modifiedAt')::timestamptz IS DISTINCT FROM v.modified_at OR r->>'modifiedBy' IS DISTINCT FROM v.modified_by);
SELECT pfa_merged_row('MERGE', 'M9');

DELETE FROM pfa_modification WHERE organization_id = 'MERGE';
DELETE FROM pfa_mirror WHERE organization_id = 'MERGE';
DELETE FROM pfa_organization WHERE organization_id = 'MERGE';
