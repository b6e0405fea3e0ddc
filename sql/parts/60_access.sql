/*
 * 60_access.sql: who sees which rows, and the merged records as a view.
 *
 * Policies ask pfa_my_organizations() and pfa_current_user_id(), never
 * current_setting(): a session that has not loaded the library could set the
 * placeholder of a setting's name to whatever it likes, while a call of a C
 * function loads the library, which drops what the role may not set.  They ask
 * by a sub-select, so that once a statement suffices, and compare texts for
 * equality, which is leakproof and can use an index.
 *
 * There are policies for reading only.  Whatever writes, our functions and
 * workers, does so as the owner, to whom no policy applies (there is no FORCE,
 * with which an owner who is no superuser could not run pg_dump).
 */

-- Policies are checked with the rights of whoever reads the table.
GRANT EXECUTE ON FUNCTION @extschema@.pfa_current_user_id() TO PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.pfa_my_organizations(text) TO PUBLIC;

CREATE FUNCTION @extschema@.pfa_is_operator() RETURNS boolean
LANGUAGE sql STABLE PARALLEL RESTRICTED
BEGIN ATOMIC
    SELECT pg_catalog.has_function_privilege('@extschema@.pfa_sync_now(text, text)'::pg_catalog.regprocedure, 'EXECUTE');
END;
COMMENT ON FUNCTION @extschema@.pfa_is_operator() IS 'whether the role has the level operator, which sees how syncs fare in all organizations';

ALTER TABLE @extschema@.pfa_mirror ENABLE ROW LEVEL SECURITY;
CREATE POLICY pfa_member ON @extschema@.pfa_mirror FOR SELECT
    USING (organization_id = ANY ((SELECT @extschema@.pfa_my_organizations())::text[]));

ALTER TABLE @extschema@.pfa_modification ENABLE ROW LEVEL SECURITY;
CREATE POLICY pfa_member ON @extschema@.pfa_modification FOR SELECT
    USING (organization_id = ANY ((SELECT @extschema@.pfa_my_organizations())::text[])
        AND (user_id = (SELECT @extschema@.pfa_current_user_id())
            OR sync_state <> 'modified'
            OR organization_id = ANY ((SELECT @extschema@.pfa_my_organizations('admin'))::text[])));

ALTER TABLE @extschema@.pfa_conflict ENABLE ROW LEVEL SECURITY;
CREATE POLICY pfa_member ON @extschema@.pfa_conflict FOR SELECT
    USING (organization_id = ANY ((SELECT @extschema@.pfa_my_organizations())::text[]));

ALTER TABLE @extschema@.pfa_user_organization ENABLE ROW LEVEL SECURITY;
CREATE POLICY pfa_member ON @extschema@.pfa_user_organization FOR SELECT
    USING (user_id = (SELECT @extschema@.pfa_current_user_id())
        OR organization_id = ANY ((SELECT @extschema@.pfa_my_organizations('admin'))::text[]));

-- How syncs fare: of the caller's organizations, and for operators of all.
ALTER TABLE @extschema@.pfa_organization ENABLE ROW LEVEL SECURITY;
CREATE POLICY pfa_member ON @extschema@.pfa_organization FOR SELECT
    USING (organization_id = ANY ((SELECT @extschema@.pfa_my_organizations())::text[])
        OR (SELECT @extschema@.pfa_is_operator()));

ALTER TABLE @extschema@.pfa_field_mapping ENABLE ROW LEVEL SECURITY;
CREATE POLICY pfa_member ON @extschema@.pfa_field_mapping FOR SELECT
    USING (organization_id IS NULL
        OR organization_id = ANY ((SELECT @extschema@.pfa_my_organizations())::text[])
        OR (SELECT @extschema@.pfa_is_operator()));

ALTER TABLE @extschema@.pfa_sync_state ENABLE ROW LEVEL SECURITY;
CREATE POLICY pfa_member ON @extschema@.pfa_sync_state FOR SELECT
    USING (organization_id = ANY ((SELECT @extschema@.pfa_my_organizations())::text[])
        OR (SELECT @extschema@.pfa_is_operator()));

ALTER TABLE @extschema@.pfa_sync_run ENABLE ROW LEVEL SECURITY;
CREATE POLICY pfa_member ON @extschema@.pfa_sync_run FOR SELECT
    USING (organization_id = ANY ((SELECT @extschema@.pfa_my_organizations())::text[])
        OR (SELECT @extschema@.pfa_is_operator()));

ALTER TABLE @extschema@.pfa_rejected_record ENABLE ROW LEVEL SECURITY;
CREATE POLICY pfa_member ON @extschema@.pfa_rejected_record FOR SELECT
    USING (organization_id = ANY ((SELECT @extschema@.pfa_my_organizations())::text[])
        OR (SELECT @extschema@.pfa_is_operator()));

ALTER TABLE @extschema@.pfa_event_log ENABLE ROW LEVEL SECURITY;
CREATE POLICY pfa_member ON @extschema@.pfa_event_log FOR SELECT
    USING (organization_id = ANY ((SELECT @extschema@.pfa_my_organizations())::text[])
        OR (SELECT @extschema@.pfa_is_operator()));

-- Ids of records under the numbers of runs: the owner's alone.
ALTER TABLE @extschema@.pfa_sync_page ENABLE ROW LEVEL SECURITY;
ALTER TABLE @extschema@.pfa_sync_vanished ENABLE ROW LEVEL SECURITY;

/* ---- merged records as rows ---- */

CREATE FUNCTION @extschema@.pfa_merged_row(organization_id text, pfa_id text,
    OUT data jsonb, OUT sync_state text, OUT modified_at timestamptz, OUT modified_by text,
    OUT version bigint, OUT synced_at timestamptz,
    OUT category text, OUT class text, OUT source text, OUT dor text, OUT area_silo text,
    OUT manufacturer text, OUT model text, OUT pems_version text,
    OUT monthly_rate numeric, OUT purchase_price numeric,
    OUT plan_cost numeric, OUT forecast_cost numeric, OUT actual_cost numeric,
    OUT original_start date, OUT original_end date, OUT forecast_start date,
    OUT forecast_end date, OUT actual_start date, OUT actual_end date,
    OUT is_actualized boolean, OUT is_discontinued boolean, OUT is_funds_transferable boolean)
RETURNS SETOF record
LANGUAGE c STABLE STRICT PARALLEL RESTRICTED COST 100 ROWS 1
AS 'MODULE_PATHNAME', 'pfa_merged_row';
COMMENT ON FUNCTION @extschema@.pfa_merged_row(text, text) IS 'one record as the caller sees it, as a row of the view pfa_merged_live; no row if there is none';
REVOKE ALL ON FUNCTION @extschema@.pfa_merged_row(text, text) FROM PUBLIC;

-- Records without modifications come from the mirror, with all its indexes.
-- Each arm of an OR has a partial index of its own.
CREATE VIEW @extschema@.pfa_merged_live WITH (security_invoker = true) AS
    SELECT m.organization_id, m.pfa_id, m.data, 'pristine'::text AS sync_state,
        NULL::timestamptz AS modified_at, NULL::text AS modified_by,
        m.version, m.synced_at, m.category, m.class, m.source, m.dor, m.area_silo,
        m.manufacturer, m.model, m.pems_version, m.monthly_rate, m.purchase_price,
        m.plan_cost, m.forecast_cost, m.actual_cost, m.original_start, m.original_end,
        m.forecast_start, m.forecast_end, m.actual_start, m.actual_end,
        m.is_actualized, m.is_discontinued, m.is_funds_transferable
    FROM @extschema@.pfa_mirror AS m
    WHERE NOT EXISTS (
        SELECT FROM @extschema@.pfa_modification AS d
        WHERE d.organization_id = m.organization_id AND d.pfa_id = m.pfa_id
            AND (d.sync_state <> 'modified' OR d.sync_state = 'modified'
                AND d.user_id = (SELECT @extschema@.pfa_current_user_id())))
    UNION ALL
    SELECT d.organization_id, d.pfa_id, r.data, r.sync_state, r.modified_at, r.modified_by,
        r.version, r.synced_at, r.category, r.class, r.source, r.dor, r.area_silo,
        r.manufacturer, r.model, r.pems_version, r.monthly_rate, r.purchase_price,
        r.plan_cost, r.forecast_cost, r.actual_cost, r.original_start, r.original_end,
        r.forecast_start, r.forecast_end, r.actual_start, r.actual_end,
        r.is_actualized, r.is_discontinued, r.is_funds_transferable
    FROM (
        SELECT DISTINCT x.organization_id, x.pfa_id
        FROM @extschema@.pfa_modification AS x
        WHERE x.sync_state <> 'modified' OR x.sync_state = 'modified'
            AND x.user_id = (SELECT @extschema@.pfa_current_user_id())) AS d,
        LATERAL @extschema@.pfa_merged_row(d.organization_id, d.pfa_id) AS r;
COMMENT ON VIEW @extschema@.pfa_merged_live IS 'all records of the caller''s organizations as the caller sees them, own drafts and committed changes included';
REVOKE ALL ON @extschema@.pfa_merged_live FROM PUBLIC;

/* ---- what a client asks about itself ---- */

CREATE FUNCTION @extschema@.pfa_read_permissions(user_id text) RETURNS jsonb
LANGUAGE sql STABLE PARALLEL RESTRICTED
BEGIN ATOMIC
    SELECT pg_catalog.jsonb_build_object('userId', u.id, 'organizations', COALESCE((
        SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
                'organizationId', m.organization_id, 'role', m.role,
                'canEdit', m.role IN ('editor', 'admin'),
                'canSeeDraftsOfOthers', m.role = 'admin') ORDER BY m.organization_id)
        FROM @extschema@.pfa_user_organization AS m WHERE m.user_id = u.id), '[]'))
    FROM (SELECT $1 AS id) AS u;
END;
COMMENT ON FUNCTION @extschema@.pfa_read_permissions(text) IS 'pfa_permissions without the cache';
REVOKE ALL ON FUNCTION @extschema@.pfa_read_permissions(text) FROM PUBLIC;

CREATE FUNCTION @extschema@.pfa_own_permissions() RETURNS jsonb
LANGUAGE c STABLE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'pfa_own_permissions';
COMMENT ON FUNCTION @extschema@.pfa_own_permissions() IS 'pfa_permissions of the caller, from the cache where it can be';
REVOKE ALL ON FUNCTION @extschema@.pfa_own_permissions() FROM PUBLIC;

-- Of another user the caller sees what policies show, which no cache knows.
CREATE FUNCTION @extschema@.pfa_permissions(user_id text DEFAULT NULL) RETURNS jsonb
LANGUAGE sql STABLE PARALLEL RESTRICTED
BEGIN ATOMIC
    SELECT CASE WHEN $1 IS NULL OR $1 = @extschema@.pfa_current_user_id()
        THEN @extschema@.pfa_own_permissions()
        ELSE @extschema@.pfa_read_permissions($1) END;
END;
COMMENT ON FUNCTION @extschema@.pfa_permissions(text) IS 'what the caller may do in which organization; of another user, what there is in organizations whose admin the caller is';
REVOKE ALL ON FUNCTION @extschema@.pfa_permissions(text) FROM PUBLIC;

CREATE FUNCTION @extschema@.pfa_organization_config(organization_id text) RETURNS jsonb
LANGUAGE c STABLE STRICT PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'pfa_organization_config';
COMMENT ON FUNCTION @extschema@.pfa_organization_config(text) IS 'an organization''s settings and fields, with what of them can be edited';
REVOKE ALL ON FUNCTION @extschema@.pfa_organization_config(text) FROM PUBLIC;

CREATE FUNCTION @extschema@.pfa_ai_cache_key(question text) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
BEGIN ATOMIC
    SELECT 'ai:query:' || pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(
        pg_catalog.lower(pg_catalog.btrim(pg_catalog.regexp_replace($1, '\s+', ' ', 'g')) COLLATE "C"),
        'UTF8')), 'hex');
END;
COMMENT ON FUNCTION @extschema@.pfa_ai_cache_key(text) IS 'key under which an answer to a question is cached; case of ASCII letters and amount of white space do not matter';
REVOKE ALL ON FUNCTION @extschema@.pfa_ai_cache_key(text) FROM PUBLIC;
