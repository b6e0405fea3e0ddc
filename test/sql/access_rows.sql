-- Who sees which rows, and attempts to see others.
\set SHOW_CONTEXT never
SET client_min_messages = error;
CREATE ROLE regress_pfa_ann;        -- viewer of RIO
CREATE ROLE regress_pfa_bob;        -- editor of RIO
CREATE ROLE regress_pfa_eve;        -- admin of OSLO, nothing in RIO
CREATE ROLE regress_pfa_ada;        -- admin of RIO
CREATE ROLE regress_pfa_api;        -- speaks for others
CREATE ROLE regress_pfa_ops;        -- operator, member of nothing
SELECT pfa_grant_access(r, 'reader') FROM unnest('{regress_pfa_ann}'::name[]) r;
SELECT pfa_grant_access(r, 'editor') FROM unnest('{regress_pfa_bob,regress_pfa_eve,regress_pfa_ada,regress_pfa_api}'::name[]) r;
SELECT pfa_grant_access('regress_pfa_ops', 'operator');
GRANT SET ON PARAMETER pfa_vanguard.user_id TO regress_pfa_api;
RESET client_min_messages;
INSERT INTO pfa_organization (organization_id, pems_organization, server_name, owner, sync_interval,
        paused, system_identifier, database_oid)
    SELECT o, o, 'none', 'none', '1 day', true, 1, 1 FROM unnest('{RIO,OSLO}'::text[]) o;
INSERT INTO pfa_mirror (organization_id, pfa_id, data)
    SELECT o, o || i, jsonb_build_object('pfaId', o || i, 'category', 'C' || i, 'monthlyRate', i)
    FROM unnest('{RIO,OSLO}'::text[]) o, generate_series(1, 3) i;
INSERT INTO pfa_user_organization (user_id, organization_id, role) VALUES
    ('regress_pfa_ann', 'RIO', 'viewer'), ('regress_pfa_bob', 'RIO', 'editor'),
    ('regress_pfa_eve', 'OSLO', 'admin'), ('regress_pfa_ada', 'RIO', 'admin'), ('carl', 'RIO', 'editor');
INSERT INTO pfa_event_log (level, component, organization_id, code, message)
    SELECT 'info', 'test', o, 'test', 'of ' || coalesce(o, 'nobody') FROM unnest('{RIO,OSLO,NULL}'::text[]) o;

-- what each sees
CREATE FUNCTION pg_temp.seen() RETURNS TABLE (relation text, ids text) LANGUAGE sql AS $$
    SELECT 'mirror', string_agg(pfa_id, ' ' ORDER BY pfa_id) FROM pfa_mirror
    UNION ALL SELECT 'merged', string_agg(pfa_id || CASE sync_state WHEN 'pristine' THEN '' ELSE ':' || sync_state END, ' ' ORDER BY pfa_id) FROM pfa_merged_live
    UNION ALL SELECT 'modification', string_agg(pfa_id || ':' || user_id || ':' || sync_state, ' ' ORDER BY pfa_id, user_id) FROM pfa_modification
    UNION ALL SELECT 'members', string_agg(user_id || ':' || organization_id || ':' || role, ' ' ORDER BY user_id, organization_id) FROM pfa_user_organization $$;
SET ROLE regress_pfa_bob;
SELECT pfa_draft('RIO', '[{"pfaId": "RIO1", "delta": {"category": "B"}}, {"pfaId": "RIO2", "delta": {"category": "B"}}]', 'b') IS NOT NULL AS saved;
SELECT pfa_commit('RIO', 'b') IS NOT NULL AS committed;
SELECT pfa_draft('RIO', '[{"pfaId": "RIO3", "delta": {"category": "draft of bob"}}]') IS NOT NULL AS saved;
SELECT * FROM pg_temp.seen();
SET ROLE regress_pfa_ann;
SELECT * FROM pg_temp.seen();
SET ROLE regress_pfa_ada;
SELECT * FROM pg_temp.seen();
SET ROLE regress_pfa_eve;
SELECT * FROM pg_temp.seen();
SET ROLE regress_pfa_ops;
SELECT * FROM pg_temp.seen();
SELECT message FROM pfa_event_log WHERE component = 'test' ORDER BY 1;

-- calls, by role in the organization
SET ROLE regress_pfa_ann;
SELECT pfa_get('RIO') #> '{pagination,totalRecords}' AS total, pfa_record('RIO', 'RIO3') #> '{data,category}' AS not_the_draft, pfa_record('RIO', 'RIO1') #> '{data,category}' AS committed;
SET ROLE regress_pfa_api;
BEGIN;
SET LOCAL pfa_vanguard.user_id = 'regress_pfa_ann';
SELECT pfa_draft('RIO', '[{"pfaId": "RIO1", "delta": {"category": "B"}}]');
ROLLBACK;
BEGIN;
SET LOCAL pfa_vanguard.user_id = 'regress_pfa_ann';
SELECT pfa_commit('RIO');
ROLLBACK;
BEGIN;
SET LOCAL pfa_vanguard.user_id = 'regress_pfa_ann';
SELECT pfa_discard('RIO', discard_all => true);
ROLLBACK;
SELECT pfa_get('RIO');
SELECT pfa_get('NOWHERE');
SELECT pfa_record('RIO', 'RIO1');
SELECT pfa_merged_row('RIO', 'RIO1');
SELECT pfa_organization_config('RIO');
-- in one statement, and in one transaction
SELECT pfa_record('RIO', 'RIO3') #> '{data,category}' AS bobs FROM set_config('pfa_vanguard.user_id', 'regress_pfa_bob', true);
SELECT pfa_current_user_id();
BEGIN;
SELECT set_config('pfa_vanguard.user_id', 'carl', true);
SELECT pfa_current_user_id(), pfa_permissions();
SELECT pfa_draft('RIO', '[{"pfaId": "RIO3", "delta": {"category": "C"}}]') #> '{saved,0,version}' AS version;
SELECT * FROM pg_temp.seen();
COMMIT;
-- what a pooled session was left with does not count
SET pfa_vanguard.user_id = 'regress_pfa_bob';
SELECT pfa_current_user_id();
SELECT * FROM pg_temp.seen();
BEGIN;
SET LOCAL pfa_vanguard.user_id = 'carl';
SELECT pfa_current_user_id();
SAVEPOINT s;
SET LOCAL pfa_vanguard.user_id = 'regress_pfa_ada';
SELECT pfa_current_user_id();
ROLLBACK TO s;
SELECT pfa_current_user_id();
COMMIT;
SELECT pfa_current_user_id();
RESET pfa_vanguard.user_id;
-- a plan made for one is run for another, and a cursor stays the one's who opened it
SET plan_cache_mode = force_generic_plan;
PREPARE seen_by AS SELECT string_agg(pfa_id || ':' || user_id, ' ' ORDER BY pfa_id, user_id) FROM pfa_modification WHERE sync_state = 'modified';
BEGIN;
SET LOCAL pfa_vanguard.user_id = 'regress_pfa_bob';
EXECUTE seen_by;
SET LOCAL pfa_vanguard.user_id = 'carl';
EXECUTE seen_by;
DECLARE of_carl CURSOR FOR SELECT pfa_id, user_id FROM pfa_modification WHERE sync_state = 'modified';
FETCH of_carl;
SET LOCAL pfa_vanguard.user_id = 'regress_pfa_bob';
FETCH of_carl;
COMMIT;
EXECUTE seen_by;
DEALLOCATE seen_by;
RESET plan_cache_mode;
-- who may not speak for others
SET ROLE regress_pfa_eve;
SET pfa_vanguard.user_id = 'regress_pfa_bob';
SELECT set_config('pfa_vanguard.user_id', 'regress_pfa_bob', true);
ALTER ROLE regress_pfa_eve SET pfa_vanguard.user_id = 'regress_pfa_bob';
CREATE FUNCTION pg_temp.speak() RETURNS text LANGUAGE sql SET pfa_vanguard.user_id = 'regress_pfa_bob' AS 'SELECT pfa_current_user_id()';
SELECT pg_temp.speak();
SELECT pfa_permissions('regress_pfa_bob'), pfa_permissions('regress_pfa_eve');
SET ROLE regress_pfa_ada;
SELECT pfa_permissions('regress_pfa_bob');
RESET ROLE;
SET pfa_vanguard.user_id = E'a\nb';
SELECT set_config('pfa_vanguard.user_id', repeat('x', 256), false);

-- ways around
SET ROLE regress_pfa_eve;
INSERT INTO pfa_user_organization VALUES ('regress_pfa_eve', 'RIO', 'admin');
UPDATE pfa_modification SET user_id = 'regress_pfa_eve';
DELETE FROM pfa_mirror;
COPY pfa_mirror (organization_id, pfa_id) TO STDOUT;
SET row_security = off;
SELECT pfa_id FROM pfa_mirror;
SELECT pfa_id FROM pfa_merged_live;
RESET row_security;
SELECT ctid FROM pfa_mirror FOR UPDATE;
MERGE INTO pfa_modification m USING pfa_mirror r ON m.pfa_id = r.pfa_id WHEN MATCHED THEN DELETE;
SELECT nextval('pfa_modification_id_seq');
-- a function that tells what it sees, called by a cheap operator before the policy
CREATE FUNCTION pg_temp.tell(text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001
    AS $$ BEGIN RAISE NOTICE 'seen: %', $1; RETURN false; END $$;
CREATE OPERATOR pg_temp.=== (LEFTARG = text, RIGHTARG = text, FUNCTION = texteq);
SELECT count(*) FROM pfa_mirror WHERE pg_temp.tell(pfa_id);
SELECT count(*) FROM pfa_merged_live WHERE pg_temp.tell(pfa_id);
SELECT count(*) FROM pfa_modification WHERE pg_temp.tell(pfa_id);
SELECT count(*) FROM pfa_user_organization WHERE pg_temp.tell(user_id);
-- errors that tell: only of rows that are one's own
SELECT pfa_id FROM pfa_mirror WHERE 1 / (monthly_rate - 3) < 1 AND organization_id = 'RIO';
SELECT pfa_id FROM pfa_merged_live WHERE pfa_id::int > 0 AND organization_id = 'RIO';
-- another organization's record behind a filter, an id, a cursor
SELECT pfa_record('OSLO', 'RIO1') IS NULL AS none;
SELECT pfa_get('OSLO', '{"searchText": "RIO"}') -> 'data' AS none;
SELECT pfa_draft('OSLO', '[{"pfaId": "RIO1", "delta": {"category": "x"}}]');
-- operators and functions of the caller's own in front of the server's
RESET ROLE;
CREATE SCHEMA regress_pfa_trap AUTHORIZATION regress_pfa_eve;
SET ROLE regress_pfa_eve;
CREATE FUNCTION regress_pfa_trap.trap(text, text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'trapped as %', current_user; END $$;
CREATE FUNCTION regress_pfa_trap.trap(text, text[]) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'trapped as %', current_user; END $$;
CREATE OPERATOR regress_pfa_trap.= (LEFTARG = text, RIGHTARG = text, FUNCTION = regress_pfa_trap.trap);
CREATE OPERATOR regress_pfa_trap.<> (LEFTARG = text, RIGHTARG = text, FUNCTION = regress_pfa_trap.trap);
CREATE FUNCTION regress_pfa_trap.now() RETURNS timestamptz LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'trapped as %', current_user; END $$;
CREATE FUNCTION regress_pfa_trap.pfa_current_user_id() RETURNS text LANGUAGE sql AS $$ SELECT 'regress_pfa_ada' $$;
CREATE FUNCTION regress_pfa_trap.pfa_my_organizations(text DEFAULT 'viewer') RETURNS text[] LANGUAGE sql AS $$ SELECT '{RIO,OSLO}'::text[] $$;
CREATE FUNCTION regress_pfa_trap.pfa_my_organizations(varchar) RETURNS text[] LANGUAGE sql AS $$ SELECT '{RIO,OSLO}'::text[] $$;
CREATE TEMP TABLE pfa_user_organization (user_id text, organization_id text, role text);
SET search_path = regress_pfa_trap, pg_catalog, public;
SELECT public.pfa_draft('OSLO', '[{"pfaId": "OSLO1", "delta": {"category": "x"}}]') IS NOT NULL AS saved;
SELECT public.pfa_commit('OSLO') IS NOT NULL AS committed;
SELECT public.pfa_discard('OSLO', pfa_ids => '{OSLO1}') IS NOT NULL AS discarded;
SELECT public.pfa_permissions() -> 'userId' AS me;
SELECT public.pfa_get('OSLO') #> '{pagination,totalRecords}' AS total;
SELECT string_agg(pfa_id, ' ' ORDER BY pfa_id) FROM public.pfa_mirror;
SELECT string_agg(pfa_id, ' ' ORDER BY pfa_id) FROM public.pfa_merged_live;
SELECT string_agg(user_id, ' ' ORDER BY user_id) FROM public.pfa_user_organization;
RESET search_path;
RESET ROLE;
-- a view of somebody who sees more does not give it away
SET ROLE regress_pfa_eve;
CREATE VIEW regress_pfa_trap.mine AS SELECT pfa_id FROM pfa_merged_live;
GRANT USAGE ON SCHEMA regress_pfa_trap TO regress_pfa_ann;
GRANT SELECT ON regress_pfa_trap.mine TO regress_pfa_ann;
SET ROLE regress_pfa_ann;
SELECT string_agg(pfa_id, ' ' ORDER BY pfa_id) FROM regress_pfa_trap.mine;
RESET ROLE;

-- every table of ours that has organizations or records has policies
SELECT c.relname AS unprotected FROM pg_class c JOIN pg_depend d ON d.objid = c.oid AND d.classid = 'pg_class'::regclass AND d.deptype = 'e'
    WHERE c.relkind = 'r' AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'pfa_vanguard') AND NOT c.relrowsecurity
    ORDER BY 1;
-- and no policy reads a setting by itself
SELECT polname, polrelid::regclass FROM pg_policy WHERE pg_get_expr(polqual, polrelid) LIKE '%current_setting%';

SET client_min_messages = error;
DROP TABLE pg_temp.pfa_user_organization;
DROP SCHEMA regress_pfa_trap CASCADE;
DROP OWNED BY regress_pfa_eve;
DELETE FROM pfa_modification WHERE organization_id IN ('RIO', 'OSLO');
DELETE FROM pfa_mirror WHERE organization_id IN ('RIO', 'OSLO');
DELETE FROM pfa_organization WHERE organization_id IN ('RIO', 'OSLO');
DELETE FROM pfa_user_organization;
DELETE FROM pfa_event_log WHERE component = 'test';
SELECT pfa_revoke_access(rolname) FROM pg_roles WHERE rolname ~ '^regress_pfa_(ann|bob|eve|ada|api|ops)$';
REVOKE SET ON PARAMETER pfa_vanguard.user_id FROM regress_pfa_api;
DROP ROLE regress_pfa_ann, regress_pfa_bob, regress_pfa_eve, regress_pfa_ada, regress_pfa_api, regress_pfa_ops;
