-- What exists under which name: the contract that others build on.
\set QUIET on
BEGIN;
CREATE EXTENSION pgtap;
SELECT no_plan();

-- ---- tables and their columns ----

CREATE FUNCTION pg_temp.has_columns_of(relation name, wanted text) RETURNS SETOF text
LANGUAGE sql AS $$
    SELECT has_column('public'::name, relation, c::name, format('%s has column %s', relation, c))
    FROM regexp_split_to_table(wanted, '\s+') c
$$;

SELECT pg_temp.has_columns_of('pfa_field_mapping', 'organization_id pems_alias key kind default_value write_name');
SELECT pg_temp.has_columns_of('pfa_mirror', 'organization_id pfa_id data category class source dor area_silo manufacturer model monthly_rate purchase_price plan_cost forecast_cost actual_cost original_start original_end forecast_start forecast_end actual_start actual_end is_actualized is_discontinued is_funds_transferable pems_version version synced_at');
SELECT pg_temp.has_columns_of('pfa_modification', 'modification_id organization_id pfa_id user_id session_id delta base base_version version sync_state change_reason created_at updated_at committed_at synced_at last_error');
SELECT pg_temp.has_columns_of('pfa_sync_run', 'run_id organization_id direction mode status requested_at started_at finished_at rows_total rows_seen rows_inserted rows_updated rows_deleted rows_unchanged rows_rejected bytes_received api_calls retries error');
SELECT pg_temp.has_columns_of('pfa_conflict', 'conflict_id organization_id pfa_id modification_id fields base local pems status resolution created_at resolved_at resolved_by');
SELECT pg_temp.has_columns_of('pfa_event_log', 'event_id logged_at level component organization_id run_id code message context');
SELECT has_table('public'::name, t::name, t || ' is a table') FROM unnest('{pfa_organization,pfa_kpi,pfa_user_organization}'::text[]) t;
SELECT col_is_pk('public', 'pfa_mirror', ARRAY['organization_id', 'pfa_id'], 'records are known by organization and id');
SELECT col_type_is('public', 'pfa_mirror', 'data', 'jsonb', 'data is jsonb');
SELECT col_type_is('public', 'pfa_mirror', 'plan_cost', 'numeric', 'costs are exact');

SELECT pg_temp.has_columns_of('pfa_sync_status', 'organization_id state reason run_id phase rows_seen rows_total percent rows_per_second eta last_success_at last_error next_sync_at');
SELECT has_view('public'::name, v::name, v || ' is a view') FROM unnest('{pfa_sync_status,pfa_merged_live,pfa_metrics,pfa_error_log,pfa_alerts,pfa_workers,pfa_cache_stats}'::text[]) v;
SELECT has_materialized_view('public'::name, v::name, v || ' is a materialized view') FROM unnest('{mv_pfa_kpi_stats,mv_pfa_timeline_bounds}'::text[]) v;
SELECT pg_temp.has_columns_of('pfa_metrics', 'name type labels value');
SELECT columns_are('public'::name, 'mv_pfa_kpi_stats'::name, '{organization_id,category,source,record_count,total_forecast_cost,total_plan_cost,avg_monthly_rate}'::name[], 'mv_pfa_kpi_stats has the specification''s columns');

-- ---- calls ----

CREATE FUNCTION pg_temp.has_call(signature text, result text) RETURNS text
LANGUAGE sql AS $$
    SELECT is((SELECT pg_get_function_result(p.oid) FROM pg_proc p
               WHERE p.oid = to_regprocedure(signature)), result, signature)
$$;
CREATE FUNCTION pg_temp.has_defaults(signature text, arguments text) RETURNS text
LANGUAGE sql AS $$
    SELECT is((SELECT pg_get_function_arguments(p.oid) FROM pg_proc p
               WHERE p.oid = to_regprocedure(signature)), arguments, 'arguments of ' || signature)
$$;

SELECT pg_temp.has_call('pfa_add_organization(text, name, text, interval)', 'void');
SELECT pg_temp.has_call('pfa_remove_organization(text)', 'void');
SELECT pg_temp.has_call('pfa_pause_organization(text)', 'void');
SELECT pg_temp.has_call('pfa_resume_organization(text)', 'void');
SELECT pg_temp.has_call('pfa_set_credentials(name, text, text)', 'void');
SELECT pg_temp.has_call('pfa_test_source(name)', 'TABLE(ok boolean, latency_ms double precision, records bigint, message text)');
SELECT pg_temp.has_call('pfa_sync_now(text, text)', 'SETOF bigint');
SELECT pg_temp.has_call('pfa_sync_wait(bigint, interval)', 'text');
SELECT pg_temp.has_call('pfa_sync_cancel(bigint)', 'boolean');
SELECT pg_temp.has_call('pfa_get(text, jsonb, integer, text, text, text)', 'jsonb');
SELECT pg_temp.has_call('pfa_record(text, text)', 'jsonb');
SELECT pg_temp.has_call('pfa_draft(text, jsonb, text)', 'jsonb');
SELECT pg_temp.has_call('pfa_commit(text, text)', 'jsonb');
SELECT pg_temp.has_call('pfa_discard(text, text, text[], boolean)', 'jsonb');
SELECT pg_temp.has_call('pfa_permissions(text)', 'jsonb');
SELECT pg_temp.has_call('pfa_organization_config(text)', 'jsonb');
SELECT pg_temp.has_call('pfa_ai_cache_key(text)', 'text');
SELECT pg_temp.has_call('pfa_stats(text)', 'jsonb');
SELECT has_function('public', f::name) FROM unnest('{pfa_kpi_stats,pfa_timeline_bounds,pfa_kpi_verify,pfa_refresh_mv,pfa_cache_get,pfa_cache_set,pfa_cache_invalidate,pfa_prewarm,pfa_adopt_database}'::text[]) f;
SELECT pg_temp.has_call('pfa_health()', 'jsonb');
SELECT pg_temp.has_call('pfa_grant_access(name, text)', 'void');
SELECT pg_temp.has_call('pfa_revoke_access(name)', 'void');
SELECT pg_temp.has_defaults('pfa_add_organization(text, name, text, interval)', 'organization_id text, server name, pems_organization text DEFAULT NULL::text, sync_interval interval DEFAULT ''00:15:00''::interval');
SELECT pg_temp.has_defaults('pfa_sync_now(text, text)', 'organization_id text DEFAULT NULL::text, mode text DEFAULT ''auto''::text');
SELECT pg_temp.has_defaults('pfa_sync_wait(bigint, interval)', 'run_id bigint DEFAULT NULL::bigint, timeout interval DEFAULT NULL::interval');
SELECT pg_temp.has_defaults('pfa_get(text, jsonb, integer, text, text, text)', 'organization_id text, filters jsonb DEFAULT ''{}''::jsonb, page_size integer DEFAULT 100, cursor text DEFAULT NULL::text, sort_by text DEFAULT ''pfaId''::text, sort_order text DEFAULT ''asc''::text');
SELECT is((SELECT prokind FROM pg_proc WHERE oid = to_regprocedure('pfa_sync(text, text)')), 'p', 'pfa_sync is a procedure');

-- ---- the specification's indexes ----

SELECT has_index('public', 'pfa_mirror', i::name, i || ' exists') FROM unnest('{idx_pfa_org_category_source,idx_pfa_org_dates,idx_pfa_active_records}'::text[]) i;
SELECT has_index('public', 'pfa_modification', 'idx_pfa_modification_sync_state', 'idx_pfa_modification_sync_state exists');

-- ---- rules for every object ----

CREATE TEMP VIEW members AS
    SELECT d.classid, d.objid FROM pg_depend d JOIN pg_extension e
    ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
    WHERE e.extname = 'pfa_vanguard' AND d.deptype = 'e';

SELECT is_empty($$
    SELECT p.oid::regprocedure FROM pg_proc p JOIN members m ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid
    WHERE obj_description(p.oid, 'pg_proc') IS NULL $$, 'every function has a comment');
SELECT is_empty($$
    SELECT c.oid::regclass FROM pg_class c JOIN members m ON m.classid = 'pg_class'::regclass AND m.objid = c.oid
    WHERE c.relkind IN ('r', 'v', 'm', 'S') AND obj_description(c.oid, 'pg_class') IS NULL $$,
    'every table, view and sequence has a comment');
SELECT is_empty($$
    SELECT p.oid::regprocedure FROM pg_proc p JOIN members m ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid
    WHERE has_function_privilege('public', p.oid, 'EXECUTE')
      AND p.proname NOT IN (SELECT name FROM pfa_access_list() WHERE level = 'public') $$, 'PUBLIC may call nothing but what policies ask');
SELECT is_empty($$
    SELECT c.oid::regclass FROM pg_class c JOIN members m ON m.classid = 'pg_class'::regclass AND m.objid = c.oid
    WHERE c.relkind IN ('r', 'v', 'm') AND has_table_privilege('public', c.oid, 'SELECT, INSERT, UPDATE, DELETE') $$,
    'PUBLIC may read and write nothing');
SELECT is_empty($$
    SELECT p.oid::regprocedure FROM pg_proc p JOIN members m ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid
    JOIN pg_language l ON l.oid = p.prolang
    WHERE (l.lanname = 'plpgsql' OR (l.lanname = 'sql' AND p.prosqlbody IS NULL) OR p.prosecdef)
      AND NOT EXISTS (SELECT 1 FROM unnest(p.proconfig) c WHERE c LIKE 'search\_path=%') $$,
    'every function in SQL or PL/pgSQL, and each that is SECURITY DEFINER, pins search_path');

SELECT * FROM finish();
ROLLBACK;
