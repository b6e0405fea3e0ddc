-- Who may call and read what: nobody, until pfa_grant_access.
\set SHOW_CONTEXT never
SET client_min_messages = error;
CREATE ROLE regress_pfa_nobody;
CREATE ROLE regress_pfa_monitor;
CREATE ROLE regress_pfa_reader;
CREATE ROLE regress_pfa_editor;
CREATE ROLE regress_pfa_operator;

-- every object of the extension, and the privilege that counts
CREATE TEMP VIEW objects AS
    SELECT 'routine' AS kind, p.proname::text AS name, p.oid
        FROM pg_depend d JOIN pg_proc p ON p.oid = d.objid
        WHERE d.classid = 'pg_proc'::regclass AND d.deptype = 'e'
            AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'pfa_vanguard')
    UNION ALL
    SELECT 'relation', c.relname::text, c.oid
        FROM pg_depend d JOIN pg_class c ON c.oid = d.objid
        WHERE d.classid = 'pg_class'::regclass AND d.deptype = 'e'
            AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'pfa_vanguard');
CREATE TEMP VIEW rights AS
    SELECT r.rolname::text AS role, o.kind, o.name,
        CASE WHEN o.kind = 'routine' THEN has_function_privilege(r.oid, o.oid, 'EXECUTE')
            WHEN c.relkind = 'S' THEN has_sequence_privilege(r.oid, o.oid, 'USAGE, SELECT, UPDATE')
            ELSE has_table_privilege(r.oid, o.oid, 'SELECT') END AS may,
        CASE WHEN o.kind = 'relation' AND c.relkind <> 'S' THEN
            has_table_privilege(r.oid, o.oid, 'INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')
            ELSE false END AS may_write
    FROM objects o LEFT JOIN pg_class c ON o.kind = 'relation' AND c.oid = o.oid,
        pg_roles r
    WHERE r.rolname ~ '^regress_pfa_(nobody|monitor|reader|editor|operator)$';

-- each is on the list, once
SELECT o.kind, o.name AS not_on_the_list FROM objects o
    WHERE NOT EXISTS (SELECT FROM pfa_access_list() l WHERE l.kind = o.kind AND l.name = o.name)
    ORDER BY 1, 2;
SELECT kind, name, count(*) FROM pfa_access_list() GROUP BY 1, 2 HAVING count(*) > 1;
SELECT DISTINCT level FROM pfa_access_list() ORDER BY 1;
-- and what is on the list is there
SELECT kind, name AS not_there_yet FROM pfa_access_list() l
    WHERE NOT EXISTS (SELECT FROM objects o WHERE l.kind = o.kind AND l.name = o.name)
    ORDER BY 1, 2;

-- PUBLIC may nothing but what policies ask, and so a new role may nothing
SELECT name, may, may_write FROM rights WHERE (may OR may_write)
    AND name NOT IN (SELECT name FROM pfa_access_list() WHERE level = 'public');
SELECT name FROM pfa_access_list() WHERE level = 'public' ORDER BY 1;
SELECT fdwacl::text LIKE '%{=%' AS public_fdw FROM pg_foreign_data_wrapper WHERE fdwname = 'pfa_pems';
SET ROLE regress_pfa_nobody;
SELECT pfa_sync_now();
SELECT pfa_sync_wait();
SELECT pfa_sync_cancel(1);
CALL pfa_sync();
SELECT * FROM pfa_sync_status;
SELECT * FROM pfa_sync_run;
SELECT pfa_add_organization('RIO', 'pems');
SELECT pfa_remove_organization('RIO');
SELECT pfa_adopt_database();
SELECT pfa_grant_access('regress_pfa_nobody', 'operator');
SELECT pfa_set_access('regress_pfa_nobody', 'operator');
SELECT pfa_revoke_access('regress_pfa_nobody');
RESET ROLE;

-- wrong arguments
SELECT pfa_grant_access('regress_pfa_nobody', 'admin');
SELECT pfa_grant_access('regress_pfa_nobody', 'owner');
SELECT pfa_grant_access('regress_pfa_nobody', NULL);
SELECT pfa_grant_access(NULL, 'reader');
SELECT pfa_grant_access('regress_pfa_none', 'reader');
SELECT pfa_grant_access('public', 'reader');
SELECT pfa_revoke_access('public');
SELECT pfa_revoke_access(NULL);

-- each level is what the list says, and includes the ones before it
SELECT pfa_grant_access('regress_pfa_' || level, level)
    FROM unnest('{monitor,reader,editor,operator}'::text[]) AS level;
CREATE TEMP VIEW deviations AS
    SELECT r.role, r.name, r.may, r.may_write
    FROM rights r JOIN pfa_access_list() l ON l.kind = r.kind AND l.name = r.name,
        LATERAL (SELECT array_position('{nobody,monitor,reader,editor,operator,owner}',
                substr(r.role, 13)) AS has,
            array_position('{nobody,monitor,reader,editor,operator,owner}', l.level) AS needs) x
    WHERE r.may <> (x.has >= x.needs) OR r.may_write;
SELECT * FROM deviations ORDER BY 1, 2;
SELECT role, count(*) > 0 AS some FROM rights WHERE may GROUP BY 1 ORDER BY 1;
SELECT r.rolname, has_schema_privilege(r.oid, n.oid, 'CREATE') AS creates
    FROM pg_roles r, pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
    WHERE e.extname = 'pfa_vanguard' AND r.rolname LIKE 'regress\_pfa\_%' ORDER BY 1;

-- granting again changes nothing; another level takes the place of the first
SELECT pfa_grant_access('regress_pfa_operator', 'operator');
SELECT * FROM deviations;
SELECT pfa_grant_access('regress_pfa_operator', 'monitor');
SELECT pfa_grant_access('regress_pfa_monitor', 'operator');
SELECT DISTINCT role FROM deviations ORDER BY 1;
SELECT pfa_grant_access('regress_pfa_operator', 'operator');
SELECT pfa_grant_access('regress_pfa_monitor', 'monitor');
SELECT * FROM deviations;

-- an operator without rights on tables does his work, in his own name
CREATE SERVER pfa_access FOREIGN DATA WRAPPER pfa_pems
    OPTIONS (base_url 'http://127.0.0.1:1', tenant 'ACME', max_retries '0');
GRANT USAGE ON FOREIGN SERVER pfa_access TO regress_pfa_operator, regress_pfa_editor;
SET ROLE regress_pfa_operator;
SELECT pfa_set_credentials('pfa_access', 'api', 'secret');
-- (in one transaction, so that no worker is there in between)
BEGIN;
SELECT pfa_add_organization('RIO', 'pfa_access');
SELECT pfa_pause_organization('RIO');
COMMIT;
SELECT organization_id, server_name, owner, paused FROM pfa_organization;
SELECT organization_id, state FROM pfa_sync_status;
BEGIN;
SELECT pfa_resume_organization('RIO');
SELECT pfa_sync_cancel(pfa_sync_now('RIO', 'full'));
COMMIT;
SELECT pfa_sync_wait(run_id) FROM pfa_sync_run WHERE organization_id = 'RIO';
CALL pfa_sync('LIMA');
SELECT count(*) FROM pfa_mirror;
DELETE FROM pfa_sync_run;
SELECT pfa_adopt_database();
SET ROLE regress_pfa_monitor;
SELECT organization_id FROM pfa_sync_status;
SELECT pfa_sync_now('RIO');
SELECT count(*) FROM pfa_sync_run;
SET ROLE regress_pfa_editor;
SELECT organization_id FROM pfa_sync_status;
SELECT pfa_sync_cancel(1);
SELECT pfa_add_organization('LIMA', 'pfa_access');
SET ROLE regress_pfa_operator;
SELECT pfa_remove_organization('RIO');
RESET ROLE;

-- and it is all taken back
SELECT pfa_revoke_access('regress_pfa_' || level)
    FROM unnest('{monitor,reader,editor,operator}'::text[]) AS level;
SELECT role, name FROM rights WHERE (may OR may_write)
    AND name NOT IN (SELECT name FROM pfa_access_list() WHERE level = 'public');
DROP SERVER pfa_access CASCADE;
DELETE FROM pfa_sync_run WHERE organization_id = 'RIO';
DELETE FROM pfa_credential_origin WHERE server_name = 'pfa_access';
DROP ROLE regress_pfa_nobody, regress_pfa_monitor, regress_pfa_reader,
    regress_pfa_editor, regress_pfa_operator;
