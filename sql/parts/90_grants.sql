/*
 * 90_grants.sql: who may call and read what.
 *
 * PUBLIC may nothing: each part above revokes what a new function gives it.
 * Roles get one of four levels, each of which includes those before it:
 * monitor, reader, editor, operator.  The extension makes no roles, as these
 * belong to the cluster and not to this database.
 *
 * Functions are granted, tables for reading only: all that writes to our
 * tables does so as the extension's owner, after it has checked who asks.
 */

/*
 * Every function and relation of the extension is on this list, and the tests
 * see to it.  Level owner: granted to nobody; level public: left to everybody.
 */
CREATE FUNCTION @extschema@.pfa_access_list()
RETURNS TABLE (level text, kind text, name text)
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    VALUES
        -- metrics, status, health
        ('monitor', 'relation', 'pfa_alerts'),
        ('monitor', 'relation', 'pfa_cache_stats'),
        ('monitor', 'relation', 'pfa_metrics'),
        ('monitor', 'relation', 'pfa_metrics_api'),
        ('monitor', 'relation', 'pfa_metrics_cache'),
        ('monitor', 'relation', 'pfa_metrics_cache_keyspaces'),
        ('monitor', 'relation', 'pfa_metrics_cache_operations'),
        ('monitor', 'relation', 'pfa_metrics_db'),
        ('monitor', 'relation', 'pfa_metrics_db_connections'),
        ('monitor', 'relation', 'pfa_metrics_db_relations'),
        ('monitor', 'relation', 'pfa_metrics_events'),
        ('monitor', 'relation', 'pfa_metrics_mv'),
        ('monitor', 'relation', 'pfa_metrics_server'),
        ('monitor', 'relation', 'pfa_metrics_sync'),
        ('monitor', 'relation', 'pfa_metrics_sync_duration'),
        ('monitor', 'relation', 'pfa_metrics_sync_errors'),
        ('monitor', 'relation', 'pfa_metrics_sync_organizations'),
        ('monitor', 'relation', 'pfa_metrics_sync_records'),
        ('monitor', 'relation', 'pfa_metrics_sync_rows'),
        ('monitor', 'relation', 'pfa_metrics_workers'),
        ('monitor', 'relation', 'pfa_metrics_write_backs'),
        ('monitor', 'relation', 'pfa_sync_status'),
        ('monitor', 'relation', 'pfa_workers'),
        ('monitor', 'routine', 'pfa_alerts_rows'),
        ('monitor', 'routine', 'pfa_cache_stats_rows'),
        ('monitor', 'routine', 'pfa_health'),
        ('monitor', 'routine', 'pfa_metrics_api'),
        ('monitor', 'routine', 'pfa_metrics_cache'),
        ('monitor', 'routine', 'pfa_metrics_cache_keyspaces'),
        ('monitor', 'routine', 'pfa_metrics_cache_operations'),
        ('monitor', 'routine', 'pfa_metrics_db'),
        ('monitor', 'routine', 'pfa_metrics_db_connections'),
        ('monitor', 'routine', 'pfa_metrics_db_relations'),
        ('monitor', 'routine', 'pfa_metrics_events'),
        ('monitor', 'routine', 'pfa_metrics_mv'),
        ('monitor', 'routine', 'pfa_metrics_server'),
        ('monitor', 'routine', 'pfa_metrics_sync'),
        ('monitor', 'routine', 'pfa_metrics_sync_duration'),
        ('monitor', 'routine', 'pfa_metrics_sync_errors'),
        ('monitor', 'routine', 'pfa_metrics_sync_organizations'),
        ('monitor', 'routine', 'pfa_metrics_sync_records'),
        ('monitor', 'routine', 'pfa_metrics_sync_rows'),
        ('monitor', 'routine', 'pfa_metrics_workers'),
        ('monitor', 'routine', 'pfa_metrics_write_backs'),
        ('monitor', 'routine', 'pfa_sync_status_rows'),
        ('monitor', 'routine', 'pfa_workers_rows'),

        -- records, as far as the caller's organizations go
        ('reader', 'relation', 'pfa_conflict'),
        ('reader', 'relation', 'pfa_merged_live'),
        ('reader', 'relation', 'pfa_mirror'),
        ('reader', 'relation', 'pfa_modification'),
        ('reader', 'relation', 'pfa_user_organization'),
        ('reader', 'routine', 'pfa_ai_cache_key'),
        ('reader', 'routine', 'pfa_get'),
        ('reader', 'routine', 'pfa_kpi_stats'),
        ('reader', 'routine', 'pfa_merged_row'),
        ('reader', 'routine', 'pfa_organization_config'),
        ('reader', 'routine', 'pfa_own_permissions'),
        ('reader', 'routine', 'pfa_permissions'),
        ('reader', 'routine', 'pfa_read_permissions'),
        ('reader', 'routine', 'pfa_record'),
        ('reader', 'routine', 'pfa_stats'),
        ('reader', 'routine', 'pfa_timeline_bounds'),

        -- drafts
        ('editor', 'routine', 'pfa_commit'),
        ('editor', 'routine', 'pfa_discard'),
        ('editor', 'routine', 'pfa_draft'),

        -- syncs, refreshes, advice, and what they left behind
        ('operator', 'relation', 'pfa_error_log'),
        ('operator', 'relation', 'pfa_event_log'),
        ('operator', 'relation', 'pfa_field_mapping'),
        ('operator', 'relation', 'pfa_organization'),
        ('operator', 'relation', 'pfa_rejected_record'),
        ('operator', 'relation', 'pfa_sync_run'),
        ('operator', 'routine', 'pfa_add_organization'),
        ('operator', 'routine', 'pfa_bind_credentials'),
        ('operator', 'routine', 'pfa_cache_invalidate'),
        ('operator', 'routine', 'pfa_kpi_compact'),
        ('operator', 'routine', 'pfa_kpi_rebuild'),
        ('operator', 'routine', 'pfa_kpi_verify'),
        ('operator', 'routine', 'pfa_pause_organization'),
        ('operator', 'routine', 'pfa_prewarm'),
        ('operator', 'routine', 'pfa_refresh_mv'),
        ('operator', 'routine', 'pfa_remove_organization'),
        ('operator', 'routine', 'pfa_resume_organization'),
        ('operator', 'routine', 'pfa_set_credentials'),
        ('operator', 'routine', 'pfa_sync'),
        ('operator', 'routine', 'pfa_sync_cancel'),
        ('operator', 'routine', 'pfa_sync_now'),
        ('operator', 'routine', 'pfa_sync_wait'),
        ('operator', 'routine', 'pfa_test_source'),

        -- the owner's: superusers' decisions, and inner parts
        ('owner', 'relation', 'pfa_conflict_id_seq'),
        ('owner', 'relation', 'pfa_credential_origin'),
        ('owner', 'relation', 'pfa_event_log_id_seq'),
        ('owner', 'relation', 'mv_pfa_kpi_stats'),
        ('owner', 'relation', 'mv_pfa_timeline_bounds'),
        ('owner', 'relation', 'pfa_kpi'),
        ('owner', 'relation', 'pfa_kpi_delta'),
        ('owner', 'relation', 'pfa_modification_id_seq'),
        ('owner', 'relation', 'pfa_mv_change'),
        ('owner', 'relation', 'pfa_mv_refresh'),
        ('owner', 'relation', 'pfa_sync_page'),
        ('owner', 'relation', 'pfa_sync_run_id_seq'),
        ('owner', 'relation', 'pfa_sync_state'),
        ('owner', 'relation', 'pfa_sync_vanished'),
        ('owner', 'routine', 'pfa_access_list'),
        ('owner', 'routine', 'pfa_kpi_facets'),
        ('owner', 'routine', 'pfa_mirror_kpi'),
        ('owner', 'routine', 'pfa_access_objects'),
        ('owner', 'routine', 'pfa_adopt_database'),
        -- whoever may fill the cache can put words into others' mouths
        ('owner', 'routine', 'pfa_cache_get'),
        ('owner', 'routine', 'pfa_cache_set'),
        ('owner', 'routine', 'pfa_field_mapping_added'),
        ('owner', 'routine', 'pfa_field_mapping_changed'),
        ('owner', 'routine', 'pfa_field_mapping_forget'),
        ('owner', 'routine', 'pfa_grant_access'),
        ('owner', 'routine', 'pfa_mirror_derive'),
        ('owner', 'routine', 'pfa_note_change'),
        ('owner', 'routine', 'pfa_pems_validator'),
        ('owner', 'routine', 'pfa_revoke_access'),
        ('owner', 'routine', 'pfa_set_access'),
        ('owner', 'routine', 'pfa_touched_columns'),

        -- policies ask these, with the rights of whoever reads a table
        ('public', 'routine', 'pfa_current_user_id'),
        ('public', 'routine', 'pfa_is_operator'),
        ('public', 'routine', 'pfa_my_organizations');
END;
COMMENT ON FUNCTION @extschema@.pfa_access_list() IS 'which level of pfa_grant_access is granted what';
REVOKE ALL ON FUNCTION @extschema@.pfa_access_list() FROM PUBLIC;

-- The list with what there is in this database: NULL where an object is not.
CREATE FUNCTION @extschema@.pfa_access_objects()
RETURNS TABLE (level text, kind text, name text, privilege text)
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT l.level, l.kind, l.name, o.privilege
    FROM @extschema@.pfa_access_list() AS l
    LEFT JOIN (
        SELECT 'routine' AS kind, p.proname AS name,
            'EXECUTE ON ROUTINE ' || p.oid::pg_catalog.regprocedure AS privilege,
            p.oid AS oid, 'pg_catalog.pg_proc'::pg_catalog.regclass AS catalog
        FROM pg_catalog.pg_proc AS p
        UNION ALL
        SELECT 'relation', c.relname,
            'SELECT ON TABLE ' || c.oid::pg_catalog.regclass,
            c.oid, 'pg_catalog.pg_class'::pg_catalog.regclass
        FROM pg_catalog.pg_class AS c) AS o
        ON o.kind = l.kind AND o.name = l.name AND EXISTS (
            SELECT FROM pg_catalog.pg_depend AS d
            JOIN pg_catalog.pg_extension AS e ON e.oid = d.refobjid
            WHERE d.classid = o.catalog AND d.objid = o.oid
                AND d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass
                AND d.deptype = 'e' AND e.extname = 'pfa_vanguard');
END;
COMMENT ON FUNCTION @extschema@.pfa_access_objects() IS 'pfa_access_list with the privilege to grant on each object';
REVOKE ALL ON FUNCTION @extschema@.pfa_access_objects() FROM PUBLIC;

/*
 * Give a role exactly one level, or none (NULL).  What it has of a higher
 * level is taken away, so that a level can be lowered.
 */
CREATE FUNCTION @extschema@.pfa_set_access(role name, level text)
RETURNS void
LANGUAGE plpgsql CALLED ON NULL INPUT VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    levels CONSTANT text[] := '{monitor,reader,editor,operator}';
    height CONSTANT int := CASE WHEN level IS NULL THEN 0
        ELSE array_position(levels, level) END;
    schema name;
    object record;
    missing text[] := '{}';
BEGIN
    IF role IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed',
            MESSAGE = 'role must not be null';
    END IF;
    IF height IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('unknown level "%s"', level),
            DETAIL = 'Levels are: monitor, reader, editor, operator.';
    END IF;
    -- Also keeps out "public", which as a word of SQL means everybody.
    IF NOT EXISTS (SELECT FROM pg_roles AS r WHERE r.rolname = role) THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object',
            MESSAGE = format('role "%s" does not exist', role);
    END IF;

    -- The schema may have been renamed since this text was written.
    SELECT n.nspname INTO STRICT schema
        FROM pg_extension AS e JOIN pg_namespace AS n ON n.oid = e.extnamespace
        WHERE e.extname = 'pfa_vanguard';
    IF height > 0 THEN
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', schema, role);
    ELSE
        EXECUTE format('REVOKE USAGE ON SCHEMA %I FROM %I', schema, role);
    END IF;

    FOR object IN EXECUTE format(
        'SELECT name, privilege, array_position($1, level) <= $2 AS granted '
        'FROM %I.pfa_access_objects() WHERE level NOT IN (''owner'', ''public'') ORDER BY name',
        schema) USING levels, height
    LOOP
        IF object.privilege IS NULL THEN
            missing := missing || object.name;
        ELSIF object.granted THEN
            EXECUTE format('GRANT %s TO %I', object.privilege, role);
        ELSE
            EXECUTE format('REVOKE %s FROM %I', object.privilege, role);
        END IF;
    END LOOP;
    IF missing <> '{}' AND height > 0 THEN
        RAISE WARNING USING
            MESSAGE = 'this version of the extension lacks objects that it should have granted',
            DETAIL = format('Missing: %s.', array_to_string(missing, ', ')),
            HINT = 'Update it with ALTER EXTENSION pfa_vanguard UPDATE.';
    END IF;
END
$$;
COMMENT ON FUNCTION @extschema@.pfa_set_access(name, text) IS 'gives a role exactly the rights of a level, or none';
REVOKE ALL ON FUNCTION @extschema@.pfa_set_access(name, text) FROM PUBLIC;

CREATE FUNCTION @extschema@.pfa_grant_access(role name, level text)
RETURNS void
LANGUAGE sql CALLED ON NULL INPUT VOLATILE PARALLEL UNSAFE
BEGIN ATOMIC
    SELECT @extschema@.pfa_set_access(role, COALESCE(level, ''));
END;
COMMENT ON FUNCTION @extschema@.pfa_grant_access(name, text) IS 'grants a role one of the levels monitor, reader, editor and operator, in place of the one it had; call it again after an update of the extension, for what is new';
REVOKE ALL ON FUNCTION @extschema@.pfa_grant_access(name, text) FROM PUBLIC;

CREATE FUNCTION @extschema@.pfa_revoke_access(role name)
RETURNS void
LANGUAGE sql CALLED ON NULL INPUT VOLATILE PARALLEL UNSAFE
BEGIN ATOMIC
    SELECT @extschema@.pfa_set_access(role, NULL);
END;
COMMENT ON FUNCTION @extschema@.pfa_revoke_access(name) IS 'takes back what pfa_grant_access granted to a role, and USAGE on the extension''s schema with it';
REVOKE ALL ON FUNCTION @extschema@.pfa_revoke_access(name) FROM PUBLIC;
