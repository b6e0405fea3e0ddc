/*
 * 70_kpi.sql: counts and sums over the mirror, and the materialized views.
 *
 * pfa_kpi and pfa_kpi_delta are derived: they are filled by triggers of
 * pfa_mirror, so a restore, which loads pfa_mirror with its triggers in place,
 * makes them anew, and pg_dump leaves them out.
 */

CREATE TABLE @extschema@.pfa_kpi (
    organization_id text COLLATE "C" NOT NULL,
    facet smallint NOT NULL,
    record_count bigint NOT NULL,
    category text,
    source text,
    dor text,
    is_actualized boolean,
    is_discontinued boolean,
    is_funds_transferable boolean,
    plan_cost numeric NOT NULL,
    forecast_cost numeric NOT NULL,
    actual_cost numeric NOT NULL,
    monthly_rate numeric NOT NULL,
    value_counts bigint[] NOT NULL
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
CREATE INDEX pfa_kpi_organization ON @extschema@.pfa_kpi (organization_id, facet);
COMMENT ON TABLE @extschema@.pfa_kpi IS 'counts and exact sums over pfa_mirror; together with pfa_kpi_delta the truth of each snapshot, read it with pfa_kpi_stats() and pfa_stats()';
COMMENT ON COLUMN @extschema@.pfa_kpi.facet IS 'what the row counts: 1 records that are not discontinued, by category and source; 2 the same by dor; 3 all records by their flags';
COMMENT ON COLUMN @extschema@.pfa_kpi.record_count IS 'how many records';
COMMENT ON COLUMN @extschema@.pfa_kpi.plan_cost IS 'sum over the records';
COMMENT ON COLUMN @extschema@.pfa_kpi.forecast_cost IS 'sum over the records';
COMMENT ON COLUMN @extschema@.pfa_kpi.actual_cost IS 'sum over the records';
COMMENT ON COLUMN @extschema@.pfa_kpi.monthly_rate IS 'sum over the records';
COMMENT ON COLUMN @extschema@.pfa_kpi.value_counts IS 'how many records have a plan_cost, forecast_cost, actual_cost and monthly_rate, each by its number of decimal places from 0 on';

CREATE TABLE @extschema@.pfa_kpi_delta (
    organization_id text COLLATE "C" NOT NULL,
    facet smallint NOT NULL,
    record_count bigint NOT NULL,
    category text,
    source text,
    dor text,
    is_actualized boolean,
    is_discontinued boolean,
    is_funds_transferable boolean,
    plan_cost numeric NOT NULL,
    forecast_cost numeric NOT NULL,
    actual_cost numeric NOT NULL,
    monthly_rate numeric NOT NULL,
    value_counts bigint[] NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, vacuum_truncate = false);
CREATE INDEX pfa_kpi_delta_organization ON @extschema@.pfa_kpi_delta (organization_id, facet);
COMMENT ON TABLE @extschema@.pfa_kpi_delta IS 'changes that are still to be added to pfa_kpi: columns as there, negative where something went';
COMMENT ON COLUMN @extschema@.pfa_kpi_delta.facet IS 'as in pfa_kpi; 0: the row has all columns of the key and counts for all three';

CREATE TABLE @extschema@.pfa_mv_change (
    kpi_stats boolean NOT NULL,
    timeline_bounds boolean NOT NULL,
    requested boolean NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, vacuum_truncate = false);
COMMENT ON TABLE @extschema@.pfa_mv_change IS 'changes of pfa_mirror that a materialized view does not have yet';
COMMENT ON COLUMN @extschema@.pfa_mv_change.kpi_stats IS 'mv_pfa_kpi_stats does not have it';
COMMENT ON COLUMN @extschema@.pfa_mv_change.timeline_bounds IS 'mv_pfa_timeline_bounds does not have it';
COMMENT ON COLUMN @extschema@.pfa_mv_change.requested IS 'a refresh is asked for, and not only due some time';

CREATE TABLE @extschema@.pfa_mv_refresh (
    view_name text PRIMARY KEY,
    refreshed_at timestamptz NOT NULL,
    duration_us bigint NOT NULL,
    rows bigint NOT NULL
);

-- Nobody but the owner reads these: what they tell of organizations is told by
-- functions that ask who is calling.
ALTER TABLE @extschema@.pfa_kpi ENABLE ROW LEVEL SECURITY;
ALTER TABLE @extschema@.pfa_kpi_delta ENABLE ROW LEVEL SECURITY;
ALTER TABLE @extschema@.pfa_mv_change ENABLE ROW LEVEL SECURITY;
ALTER TABLE @extschema@.pfa_mv_refresh ENABLE ROW LEVEL SECURITY;
COMMENT ON TABLE @extschema@.pfa_mv_refresh IS 'last refresh of each materialized view';

/* ---- every way in which the mirror changes ---- */

CREATE FUNCTION @extschema@.pfa_mirror_kpi()
    RETURNS trigger
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'pfa_mirror_kpi';
REVOKE ALL ON FUNCTION @extschema@.pfa_mirror_kpi() FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.pfa_mirror_kpi() IS 'trigger: notes in pfa_kpi_delta what a statement on pfa_mirror changes';

CREATE TRIGGER pfa_mirror_kpi_insert
    AFTER INSERT ON @extschema@.pfa_mirror
    REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION @extschema@.pfa_mirror_kpi();
CREATE TRIGGER pfa_mirror_kpi_update
    AFTER UPDATE ON @extschema@.pfa_mirror
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION @extschema@.pfa_mirror_kpi();
CREATE TRIGGER pfa_mirror_kpi_delete
    AFTER DELETE ON @extschema@.pfa_mirror
    REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION @extschema@.pfa_mirror_kpi();
CREATE TRIGGER pfa_mirror_kpi_truncate
    AFTER TRUNCATE ON @extschema@.pfa_mirror
    FOR EACH STATEMENT EXECUTE FUNCTION @extschema@.pfa_mirror_kpi();

-- Also where session_replication_role is replica: the rows are there all the same.
ALTER TABLE @extschema@.pfa_mirror ENABLE ALWAYS TRIGGER pfa_mirror_kpi_insert;
ALTER TABLE @extschema@.pfa_mirror ENABLE ALWAYS TRIGGER pfa_mirror_kpi_update;
ALTER TABLE @extschema@.pfa_mirror ENABLE ALWAYS TRIGGER pfa_mirror_kpi_delete;
ALTER TABLE @extschema@.pfa_mirror ENABLE ALWAYS TRIGGER pfa_mirror_kpi_truncate;

/* ---- materialized views ---- */

CREATE MATERIALIZED VIEW @extschema@.mv_pfa_kpi_stats AS
SELECT
  organization_id,
  category,
  source,
  COUNT(*) as record_count,
  SUM(forecast_cost) as total_forecast_cost,
  SUM(plan_cost) as total_plan_cost,
  AVG(monthly_rate) as avg_monthly_rate
FROM @extschema@.pfa_mirror
WHERE is_discontinued = false
GROUP BY organization_id, category, source;

CREATE INDEX ON @extschema@.mv_pfa_kpi_stats(organization_id);
CREATE UNIQUE INDEX mv_pfa_kpi_stats_key
    ON @extschema@.mv_pfa_kpi_stats (organization_id, category, source) NULLS NOT DISTINCT;
COMMENT ON MATERIALIZED VIEW @extschema@.mv_pfa_kpi_stats IS 'KPI as of the last refresh; pfa_kpi_stats() is never old. Shows every organization, so nobody is granted it';

CREATE MATERIALIZED VIEW @extschema@.mv_pfa_timeline_bounds AS
SELECT
  organization_id,
  min(original_start) AS plan_start,
  max(original_end) AS plan_end,
  min(forecast_start) AS forecast_start,
  max(forecast_end) AS forecast_end,
  min(actual_start) AS actual_start,
  max(actual_end) AS actual_end,
  count(*) AS record_count
FROM @extschema@.pfa_mirror
GROUP BY organization_id;

CREATE UNIQUE INDEX mv_pfa_timeline_bounds_key
    ON @extschema@.mv_pfa_timeline_bounds (organization_id);
COMMENT ON MATERIALIZED VIEW @extschema@.mv_pfa_timeline_bounds IS 'earliest and latest dates of each organization as of the last refresh; read it with pfa_timeline_bounds()';

/* ---- functions ---- */

CREATE FUNCTION @extschema@.pfa_kpi_stats(organization_id text DEFAULT NULL)
RETURNS TABLE (
    organization_id text, category text, source text, record_count bigint,
    total_plan_cost numeric, total_forecast_cost numeric,
    total_actual_cost numeric, avg_monthly_rate numeric,
    forecast_variance numeric, actual_variance numeric)
LANGUAGE c CALLED ON NULL INPUT STABLE PARALLEL RESTRICTED ROWS 50
AS 'MODULE_PATHNAME', 'pfa_kpi_stats';
REVOKE ALL ON FUNCTION @extschema@.pfa_kpi_stats(text) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.pfa_kpi_stats(text) IS 'counts, sums, average and variances of records that are not discontinued, by organization, category and source: the truth of the present snapshot';

CREATE FUNCTION @extschema@.pfa_stats(organization_id text)
RETURNS jsonb
LANGUAGE c STRICT STABLE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'pfa_stats';
REVOKE ALL ON FUNCTION @extschema@.pfa_stats(text) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.pfa_stats(text) IS 'the KPI document of an organization as the caller sees it, drafts included: totals, variances, counts by state, breakdowns by category, source and dor';

CREATE FUNCTION @extschema@.pfa_kpi_facets()
RETURNS TABLE (
    organization_id text, facet smallint, category text, source text,
    dor text, is_actualized boolean, is_discontinued boolean,
    is_funds_transferable boolean, record_count bigint,
    plan_cost numeric, forecast_cost numeric, actual_cost numeric,
    avg_monthly_rate numeric, plan_cost_count bigint,
    forecast_cost_count bigint, actual_cost_count bigint,
    monthly_rate_count bigint)
LANGUAGE c STABLE PARALLEL RESTRICTED ROWS 1000
AS 'MODULE_PATHNAME', 'pfa_kpi_facets';
REVOKE ALL ON FUNCTION @extschema@.pfa_kpi_facets() FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.pfa_kpi_facets() IS 'pfa_kpi and pfa_kpi_delta added up, of all organizations; for pfa_kpi_verify()';

CREATE FUNCTION @extschema@.pfa_kpi_verify()
RETURNS TABLE (
    organization_id text, facet text, category text, source text, dor text,
    is_actualized boolean, is_discontinued boolean,
    is_funds_transferable boolean, live jsonb, recounted jsonb)
LANGUAGE c STABLE PARALLEL RESTRICTED ROWS 1
AS 'MODULE_PATHNAME', 'pfa_kpi_verify';
REVOKE ALL ON FUNCTION @extschema@.pfa_kpi_verify() FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.pfa_kpi_verify() IS 'where the live KPI differ from a recount of pfa_mirror in the same snapshot: nowhere';

CREATE FUNCTION @extschema@.pfa_kpi_compact()
RETURNS bigint
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'pfa_kpi_compact';
REVOKE ALL ON FUNCTION @extschema@.pfa_kpi_compact() FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.pfa_kpi_compact() IS 'adds pfa_kpi_delta to pfa_kpi, as the scheduler does by itself; returns how many rows';

CREATE FUNCTION @extschema@.pfa_kpi_rebuild()
RETURNS bigint
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'pfa_kpi_rebuild';
REVOKE ALL ON FUNCTION @extschema@.pfa_kpi_rebuild() FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.pfa_kpi_rebuild() IS 'counts pfa_mirror anew, while nobody can write it; needed after rows were loaded with triggers disabled; returns how many records';

CREATE FUNCTION @extschema@.pfa_timeline_bounds(organization_id text DEFAULT NULL)
RETURNS TABLE (
    organization_id text, plan_start date, plan_end date,
    forecast_start date, forecast_end date, actual_start date,
    actual_end date, record_count bigint)
LANGUAGE c CALLED ON NULL INPUT STABLE PARALLEL RESTRICTED ROWS 10
AS 'MODULE_PATHNAME', 'pfa_timeline_bounds';
REVOKE ALL ON FUNCTION @extschema@.pfa_timeline_bounds(text) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.pfa_timeline_bounds(text) IS 'earliest and latest plan, forecast and actual dates of organizations, as of the last refresh of mv_pfa_timeline_bounds';

CREATE FUNCTION @extschema@.pfa_refresh_mv(view_name text DEFAULT NULL)
RETURNS TABLE (view_name text, refreshed boolean, rows bigint, duration interval)
LANGUAGE c CALLED ON NULL INPUT VOLATILE PARALLEL UNSAFE ROWS 2
AS 'MODULE_PATHNAME', 'pfa_refresh_mv';
REVOKE ALL ON FUNCTION @extschema@.pfa_refresh_mv(text) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.pfa_refresh_mv(text) IS 'refreshes mv_pfa_kpi_stats, mv_pfa_timeline_bounds, or both, if pfa_mirror has changed since; while another refresh of a view runs, the view is refreshed once more after it';

REVOKE ALL ON @extschema@.pfa_kpi, @extschema@.pfa_kpi_delta,
    @extschema@.pfa_mv_change, @extschema@.pfa_mv_refresh,
    @extschema@.mv_pfa_kpi_stats, @extschema@.mv_pfa_timeline_bounds FROM PUBLIC;
