-- Drafts: what is saved, what is refused, what becomes of them.
INSERT INTO pfa_organization (organization_id, pems_organization, server_name, owner, sync_interval,
        paused, system_identifier, database_oid)
    VALUES ('DRAFT', 'DRAFT', 'none', 'none', '1 day', true, 1, 1);
INSERT INTO pfa_mirror (organization_id, pfa_id, data) VALUES
    ('DRAFT', 'D1', '{"pfaId": "D1", "category": "Cranes", "source": "Rental", "dor": "BEO", "monthlyRate": 3044,
        "purchasePrice": null, "forecastStart": "2025-01-01", "forecastEnd": "2025-01-31", "description": "one",
        "isActualized": false, "isDiscontinued": false, "planCost": null, "forecastCost": 3000.00, "actualCost": null}'),
    ('DRAFT', 'D2', '{"pfaId": "D2", "category": null, "source": "Purchase", "purchasePrice": 500.5,
        "forecastStart": null, "forecastEnd": "2025-06-01", "isActualized": true}');
-- what is left of a draft
CREATE TEMP VIEW drafts AS
    SELECT pfa_id, session_id, delta, base, base_version, version, sync_state, change_reason
    FROM pfa_modification WHERE organization_id = 'DRAFT';
-- ids of modifications differ from run to run
CREATE FUNCTION pg_temp.draft(modifications jsonb, session_id text DEFAULT NULL) RETURNS text LANGUAGE sql
AS $$ SELECT regexp_replace(pfa_draft('DRAFT', modifications, session_id)::text, '"modificationId": [0-9]+', '"modificationId": N', 'g') $$;

-- saved, with the values it was begun on
SELECT pg_temp.draft('[{"pfaId": "D1", "delta": {"category": "Trucks", "monthlyRate": 6088}, "changeReason": "cheaper"}]', 's1');
SELECT * FROM drafts;
-- the same again is nothing
SELECT pg_temp.draft('[{"pfaId": "D1", "delta": {"category": "Trucks"}, "changeReason": "cheaper"}]', 's1');
SELECT pg_temp.draft('[{"pfaId": "D1", "delta": {"monthlyRate": 6088.00}}]');
-- more fields join it; the session is the last one that saved
SELECT pg_temp.draft('[{"pfaId": "D1", "delta": {"dor": "PROJECT"}}]', 's2');
SELECT * FROM drafts;
-- back to the mirror's value: the field leaves, and with the last one the draft
SELECT pg_temp.draft('[{"pfaId": "D1", "delta": {"category": "Cranes", "dor": "BEO"}}]');
SELECT * FROM drafts;
SELECT pg_temp.draft('[{"pfaId": "D1", "delta": {"monthlyRate": 3044.0}}]');
SELECT * FROM drafts;
-- never a draft: equal to the mirror from the start
SELECT pg_temp.draft('[{"pfaId": "D2", "delta": {"purchasePrice": 500.50, "category": "  "}}]');
-- blanks are what the mapping makes of blanks
SELECT pg_temp.draft('[{"pfaId": "D2", "delta": {"source": "", "dor": null, "category": "Pumps", "isDiscontinued": null}}]');
SELECT pfa_id, delta, base FROM drafts;

-- a record changed by a sync meanwhile: new fields begin on what is there now
UPDATE pfa_mirror SET data = data || '{"monthlyRate": 10, "manufacturer": "Acme"}' WHERE organization_id = 'DRAFT' AND pfa_id = 'D2';
SELECT pg_temp.draft('[{"pfaId": "D2", "delta": {"monthlyRate": 12, "manufacturer": "Other"}}]');
SELECT pfa_id, delta, base, base_version FROM drafts;

-- several at a time; the answer is in the order of the call
SELECT pg_temp.draft('[{"pfaId": "D2", "delta": {"model": "M"}}, {"pfaId": "D1", "delta": {"model": "M"}}]', 's3');
-- all or none
SELECT pg_temp.draft('[{"pfaId": "D1", "delta": {"model": "X"}}, {"pfaId": "D3", "delta": {"model": "X"}}]');
SELECT pg_temp.draft('[{"pfaId": "D1", "delta": {"model": "X"}}, {"pfaId": "D2", "delta": {"model": 1}}]');
SELECT pfa_id, delta FROM drafts ORDER BY 1;

-- what is refused
SELECT pfa_draft(NULL, '[]');
SELECT pfa_draft('DRAFT', NULL);
SELECT pfa_draft('DRAFT', '{}');
SELECT pfa_draft('DRAFT', '"text"');
SELECT pfa_draft('DRAFT', '[]');
SELECT pfa_draft('DRAFT', '[1]');
SELECT pfa_draft('DRAFT', '[[]]');
SELECT pfa_draft('DRAFT', '[{"delta": {"model": "X"}}]');
SELECT pfa_draft('DRAFT', '[{"pfaId": "D1"}]');
SELECT pfa_draft('DRAFT', '[{"pfaId": 1, "delta": {"model": "X"}}]');
SELECT pfa_draft('DRAFT', '[{"pfaId": "", "delta": {"model": "X"}}]');
SELECT pfa_draft('DRAFT', '[{"pfaId": "D1", "delta": {"model": "X"}, "reason": "x"}]');
SELECT pfa_draft('DRAFT', '[{"pfaId": "D1", "delta": {"model": "X"}, "changeReason": 1}]');
SELECT pfa_draft('DRAFT', '[{"pfaId": "D1", "delta": {}}]');
SELECT pfa_draft('DRAFT', '[{"pfaId": "D1", "delta": []}]');
SELECT pfa_draft('DRAFT', '[{"pfaId": "D1", "delta": null}]');
SELECT pfa_draft('DRAFT', '[{"pfaId": "D1", "delta": {"modle": "X"}}]');
SELECT pfa_draft('DRAFT', '[{"pfaId": "D1", "delta": {"description": "X"}}]');
SELECT pfa_draft('DRAFT', '[{"pfaId": "D1", "delta": {"planCost": 1}}]');
SELECT pfa_draft('DRAFT', '[{"pfaId": "D1", "delta": {"model": 1}}]');
SELECT pfa_draft('DRAFT', '[{"pfaId": "D1", "delta": {"model": {}}}]');
SELECT pfa_draft('DRAFT', '[{"pfaId": "D1", "delta": {"monthlyRate": "1"}}]');
SELECT pfa_draft('DRAFT', '[{"pfaId": "D1", "delta": {"forecastEnd": "31.12.2025"}}]');
SELECT pfa_draft('DRAFT', '[{"pfaId": "D1", "delta": {"forecastEnd": "2025-02-29"}}]');
SELECT pfa_draft('DRAFT', '[{"pfaId": "D1", "delta": {"isDiscontinued": "Y"}}]');
SELECT pfa_draft('DRAFT', '[{"pfaId": "D1", "delta": {"monthlyRate": 1e200}}]');
SELECT pfa_draft('DRAFT', jsonb_build_array(jsonb_build_object('pfaId', 'D1', 'delta', jsonb_build_object('category', repeat('x', 1001)))));
SELECT pfa_draft('DRAFT', '[{"pfaId": "D1", "delta": {"forecastEnd": "2024-12-31"}}]');
SELECT pfa_draft('DRAFT', '[{"pfaId": "D2", "delta": {"forecastStart": "2025-06-02"}}]');
SELECT pfa_draft('DRAFT', '[{"pfaId": "D1", "delta": {"model": "A"}}, {"pfaId": "D1", "delta": {"class": "B"}}]');
SELECT pfa_draft('DRAFT', '[{"pfaId": "D1", "delta": {"model": "A"}}]', '');
SELECT pfa_draft('NOWHERE', '[{"pfaId": "D1", "delta": {"model": "A"}}]');
BEGIN READ ONLY;
SELECT pfa_draft('DRAFT', '[{"pfaId": "D1", "delta": {"model": "A"}}]');
ROLLBACK;
SELECT pfa_id, delta FROM drafts ORDER BY 1;

-- the mapping is data: a field of one organization, and one that cannot be edited there
INSERT INTO pfa_field_mapping (organization_id, pems_alias, key, kind, write_name)
    VALUES ('DRAFT', 'pfs_site', 'site', 'text', 'PFS_SITE'), ('DRAFT', 'pfs_f_model', 'model', 'text', NULL);
SELECT pg_temp.draft('[{"pfaId": "D1", "delta": {"site": "North"}}]');
SELECT pg_temp.draft('[{"pfaId": "D1", "delta": {"model": "A"}}]');
BEGIN;
DELETE FROM pfa_field_mapping WHERE organization_id = 'DRAFT';
SELECT pg_temp.draft('[{"pfaId": "D1", "delta": {"site": "South"}}]');
ROLLBACK;
SELECT pg_temp.draft('[{"pfaId": "D1", "delta": {"site": "South"}}]');
SELECT pfa_id, delta FROM drafts ORDER BY 1;
DELETE FROM pfa_field_mapping WHERE organization_id = 'DRAFT';

-- discard
SELECT pfa_discard('DRAFT');
SELECT pfa_discard('DRAFT', 's3', NULL, true);
SELECT pfa_discard(NULL, discard_all => true);
CREATE FUNCTION pg_temp.no_ids(answer jsonb) RETURNS text LANGUAGE sql
AS $$ SELECT regexp_replace(answer::text, '"modificationId": [0-9]+', '"modificationId": N', 'g') $$;
SELECT pg_temp.no_ids(pfa_discard('DRAFT', 's1'));
SELECT pg_temp.no_ids(pfa_discard('DRAFT', 's3', '{D1,D9}'));
SELECT pg_temp.no_ids(pfa_discard('DRAFT', discard_all => true));
SELECT count(*) FROM drafts;

-- commit: of one session, of all; committed changes are not drafts any more
SELECT pg_temp.draft('[{"pfaId": "D1", "delta": {"class": "A"}}]', 'a');
SELECT pg_temp.draft('[{"pfaId": "D2", "delta": {"class": "A"}}]', 'b');
SELECT pg_temp.no_ids(pfa_commit('DRAFT', 'a'));
SELECT pfa_id, sync_state, version, base FROM drafts ORDER BY 1;
SELECT pg_temp.no_ids(pfa_discard('DRAFT', pfa_ids => '{D1}'));
-- a draft over a committed change begins on that change
SELECT pg_temp.draft('[{"pfaId": "D1", "delta": {"class": "B"}}]');
SELECT pg_temp.draft('[{"pfaId": "D1", "delta": {"class": "A"}}]');
SELECT pg_temp.draft('[{"pfaId": "D1", "delta": {"class": null}}]');
SELECT pfa_id, sync_state, delta, base FROM drafts ORDER BY 1, 2;
SELECT pg_temp.no_ids(pfa_commit('DRAFT'));
SELECT pg_temp.no_ids(pfa_commit('DRAFT'));
SELECT pfa_id, sync_state, version FROM drafts ORDER BY 1, 2, 3;
-- a period that a sync has made impossible
SELECT pg_temp.draft('[{"pfaId": "D1", "delta": {"forecastEnd": "2025-02-01"}}]');
UPDATE pfa_mirror SET data = data || '{"forecastStart": "2025-03-01", "forecastEnd": "2025-04-01"}' WHERE organization_id = 'DRAFT' AND pfa_id = 'D1';
SELECT pfa_commit('DRAFT');
SELECT pg_temp.draft('[{"pfaId": "D1", "delta": {"forecastStart": "2025-01-31"}}]');
-- a draft outlives its record, and is committed for the write-back to find out
DELETE FROM pfa_mirror WHERE organization_id = 'DRAFT' AND pfa_id = 'D1';
SELECT pfa_record('DRAFT', 'D1') IS NULL AS gone;
SELECT pg_temp.draft('[{"pfaId": "D1", "delta": {"class": "B"}}]');
SELECT pg_temp.no_ids(pfa_commit('DRAFT'));
-- changes that PEMS refused are their author's to drop
UPDATE pfa_modification SET sync_state = 'error', last_error = 'not a valid class' WHERE organization_id = 'DRAFT' AND pfa_id = 'D2';
SELECT pg_temp.no_ids(pfa_discard('DRAFT', pfa_ids => '{D1,D2}'));

-- the table itself keeps to its states
\set VERBOSITY terse
INSERT INTO pfa_modification (organization_id, pfa_id, user_id, delta, base, base_version, sync_state) VALUES ('DRAFT', 'D1', 'u', '{}', '{}', 1, 'done');
INSERT INTO pfa_modification (organization_id, pfa_id, user_id, delta, base, base_version, sync_state) VALUES ('DRAFT', 'D1', 'u', '{}', '{}', 1, 'synced');
INSERT INTO pfa_modification (organization_id, pfa_id, user_id, delta, base, base_version) VALUES ('DRAFT', 'D1', 'u', '[]', '{}', 1);

DELETE FROM pfa_modification WHERE organization_id = 'DRAFT';
DELETE FROM pfa_mirror WHERE organization_id = 'DRAFT';
DELETE FROM pfa_organization WHERE organization_id = 'DRAFT';
