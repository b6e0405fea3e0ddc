/*
 * 10_tables.sql: what is stored.
 *
 * pg_dump carries what cannot be had again (pg_extension_config_dump below);
 * runs, pages, events and the schedule's state start anew.
 */

CREATE TABLE @extschema@.pfa_organization (
    organization_id text COLLATE "C" PRIMARY KEY
        CHECK (octet_length(organization_id) BETWEEN 1 AND 63),
    pems_organization text NOT NULL,
    server_name name NOT NULL,
    owner name NOT NULL,
    sync_interval interval NOT NULL,
    paused boolean NOT NULL DEFAULT false,
    system_identifier bigint NOT NULL,
    database_oid oid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT pg_catalog.now()
);
COMMENT ON TABLE @extschema@.pfa_organization IS 'organizations (construction projects) that are mirrored from PEMS';
COMMENT ON COLUMN @extschema@.pfa_organization.pems_organization IS 'code of the organization in PEMS';
COMMENT ON COLUMN @extschema@.pfa_organization.owner IS 'role whose user mapping holds the credentials';
COMMENT ON COLUMN @extschema@.pfa_organization.system_identifier IS 'cluster that last worked on this organization; with another one the database is a copy and pauses';
COMMENT ON COLUMN @extschema@.pfa_organization.database_oid IS 'database that last worked on this organization';

-- State of the schedule; not dumped, so that a restored database begins with a full sync.
CREATE TABLE @extschema@.pfa_sync_state (
    organization_id text COLLATE "C" PRIMARY KEY,
    next_sync_at timestamptz NOT NULL,
    last_success_at timestamptz,
    last_full_at timestamptz,
    failures integer NOT NULL DEFAULT 0,
    last_error text,
    watermark text,
    mapping_hash bigint NOT NULL DEFAULT 0,
    layout text
);
COMMENT ON TABLE @extschema@.pfa_sync_state IS 'when an organization is due, and what its last sync left behind';
COMMENT ON COLUMN @extschema@.pfa_sync_state.failures IS 'failed syncs in a row';
COMMENT ON COLUMN @extschema@.pfa_sync_state.watermark IS 'newest pemsVersion seen; a delta asks for records from here on';
COMMENT ON COLUMN @extschema@.pfa_sync_state.mapping_hash IS 'field mapping that the last full sync read with';
COMMENT ON COLUMN @extschema@.pfa_sync_state.layout IS 'field aliases that PEMS last delivered; a difference is schema drift';

CREATE TABLE @extschema@.pfa_field_mapping (
    organization_id text COLLATE "C",
    pems_alias text NOT NULL CHECK (pems_alias <> ''),
    key text NOT NULL CHECK (key <> ''),
    kind text NOT NULL CHECK (kind IN ('text', 'number', 'date', 'boolean')),
    default_value text,
    write_name text,
    shipped boolean NOT NULL DEFAULT false,
    UNIQUE NULLS NOT DISTINCT (organization_id, key)
);
COMMENT ON TABLE @extschema@.pfa_field_mapping IS 'which PEMS field becomes which key of data; rows without organization are the default, an organization''s own row replaces the default row of its key';
COMMENT ON COLUMN @extschema@.pfa_field_mapping.pems_alias IS 'field of the grid, any case';
COMMENT ON COLUMN @extschema@.pfa_field_mapping.key IS 'key in pfa_mirror.data';
COMMENT ON COLUMN @extschema@.pfa_field_mapping.kind IS 'text, number, date or boolean';
COMMENT ON COLUMN @extschema@.pfa_field_mapping.default_value IS 'what a blank in PEMS means';
COMMENT ON COLUMN @extschema@.pfa_field_mapping.write_name IS 'field of the write screen; NULL: cannot be edited';
COMMENT ON COLUMN @extschema@.pfa_field_mapping.shipped IS 'row came with the extension and was not changed; such rows are not dumped';

-- Here and below: to give space at the end of a table back, vacuum locks it
-- exclusively for a moment, which cancels queries on standbys.
--
-- The index of the key has content_hash too, so that a sync finds what has not
-- changed without reading the rows.
CREATE TABLE @extschema@.pfa_mirror (
    organization_id text COLLATE "C" NOT NULL,
    pfa_id text COLLATE "C" NOT NULL,
    data jsonb NOT NULL,
    content_hash bigint NOT NULL,
    version bigint NOT NULL,
    synced_at timestamptz NOT NULL,
    category text,
    class text,
    source text,
    dor text,
    area_silo text,
    manufacturer text,
    model text,
    pems_version text,
    monthly_rate numeric,
    purchase_price numeric,
    plan_cost numeric,
    forecast_cost numeric,
    actual_cost numeric,
    original_start date,
    original_end date,
    forecast_start date,
    forecast_end date,
    actual_start date,
    actual_end date,
    is_actualized boolean NOT NULL,
    is_discontinued boolean NOT NULL,
    is_funds_transferable boolean NOT NULL,
    PRIMARY KEY (organization_id, pfa_id) INCLUDE (content_hash)
) WITH (vacuum_truncate = false);
COMMENT ON TABLE @extschema@.pfa_mirror IS 'what PEMS holds, one row a record; written by syncs';
COMMENT ON COLUMN @extschema@.pfa_mirror.data IS 'the mapped record under the keys of pfa_field_mapping, with planCost, forecastCost and actualCost';
COMMENT ON COLUMN @extschema@.pfa_mirror.content_hash IS 'hash of the record''s content; 0: look at it again at the next sync';
COMMENT ON COLUMN @extschema@.pfa_mirror.version IS 'grows by one at each change';
COMMENT ON COLUMN @extschema@.pfa_mirror.synced_at IS 'time of the last change';

CREATE INDEX idx_pfa_org_category_source
    ON @extschema@.pfa_mirror (organization_id, category, source)
    WHERE is_discontinued = false;
CREATE INDEX idx_pfa_org_dates
    ON @extschema@.pfa_mirror (organization_id, forecast_start, forecast_end)
    WHERE is_discontinued = false;
CREATE INDEX idx_pfa_active_records
    ON @extschema@.pfa_mirror (organization_id, forecast_start)
    WHERE is_discontinued = false AND is_actualized = false;

CREATE SEQUENCE @extschema@.pfa_sync_run_id_seq;
CREATE TABLE @extschema@.pfa_sync_run (
    run_id bigint PRIMARY KEY DEFAULT pg_catalog.nextval('@extschema@.pfa_sync_run_id_seq'),
    organization_id text COLLATE "C" NOT NULL,
    direction text NOT NULL DEFAULT 'read' CHECK (direction IN ('read', 'write')),
    mode text NOT NULL CHECK (mode IN ('auto', 'full', 'delta', 'force')),
    status text NOT NULL DEFAULT 'queued'
        CHECK (status IN ('queued', 'running', 'completed', 'failed', 'cancelled')),
    requested_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    started_at timestamptz,
    finished_at timestamptz,
    rows_total bigint,
    rows_seen bigint NOT NULL DEFAULT 0,
    rows_inserted bigint NOT NULL DEFAULT 0,
    rows_updated bigint NOT NULL DEFAULT 0,
    rows_deleted bigint NOT NULL DEFAULT 0,
    rows_unchanged bigint NOT NULL DEFAULT 0,
    rows_rejected bigint NOT NULL DEFAULT 0,
    bytes_received bigint NOT NULL DEFAULT 0,
    api_calls bigint NOT NULL DEFAULT 0,
    retries bigint NOT NULL DEFAULT 0,
    error text,
    attempt integer NOT NULL DEFAULT 1,
    worker_pid integer,
    worker_started_at timestamptz
);
ALTER SEQUENCE @extschema@.pfa_sync_run_id_seq OWNED BY @extschema@.pfa_sync_run.run_id;
CREATE UNIQUE INDEX pfa_sync_run_unfinished
    ON @extschema@.pfa_sync_run (organization_id, direction)
    WHERE status IN ('queued', 'running');
CREATE INDEX pfa_sync_run_finished
    ON @extschema@.pfa_sync_run (finished_at)
    WHERE status NOT IN ('queued', 'running');
CREATE INDEX pfa_sync_run_organization
    ON @extschema@.pfa_sync_run (organization_id, run_id);
COMMENT ON TABLE @extschema@.pfa_sync_run IS 'history of syncs, one row a run';
COMMENT ON COLUMN @extschema@.pfa_sync_run.attempt IS '1, and more for a run that was taken up again after its worker died';
COMMENT ON COLUMN @extschema@.pfa_sync_run.worker_pid IS 'process that works on the run; with worker_started_at it tells a dead worker''s run';
COMMENT ON SEQUENCE @extschema@.pfa_sync_run_id_seq IS 'numbers of sync runs';

-- The durable memory of a run in progress: see src/sync/coverage.h.
CREATE TABLE @extschema@.pfa_sync_page (
    run_id bigint NOT NULL,
    page_no bigint NOT NULL,
    lower_id text COLLATE "C",
    upper_id text COLLATE "C",
    upper_is_ours boolean NOT NULL,
    counts bigint[] NOT NULL
) WITH (vacuum_truncate = false);
CREATE INDEX pfa_sync_page_run ON @extschema@.pfa_sync_page (run_id);
COMMENT ON TABLE @extschema@.pfa_sync_page IS 'which part of the listing a run has read and written; emptied when the run ends';

CREATE TABLE @extschema@.pfa_sync_vanished (
    run_id bigint NOT NULL,
    page_no bigint NOT NULL,
    pfa_id text COLLATE "C" NOT NULL
) WITH (vacuum_truncate = false);
CREATE INDEX pfa_sync_vanished_run ON @extschema@.pfa_sync_vanished (run_id, page_no);
COMMENT ON TABLE @extschema@.pfa_sync_vanished IS 'mirror records that a run in progress did not find in PEMS; emptied when the run ends';

CREATE TABLE @extschema@.pfa_rejected_record (
    organization_id text COLLATE "C" NOT NULL,
    pfa_id text COLLATE "C" NOT NULL,
    run_id bigint NOT NULL,
    reason text NOT NULL,
    rejected_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
CREATE INDEX pfa_rejected_record_organization
    ON @extschema@.pfa_rejected_record (organization_id, pfa_id);
COMMENT ON TABLE @extschema@.pfa_rejected_record IS 'records that the last syncs skipped because they could not be mapped, and why';

CREATE SEQUENCE @extschema@.pfa_event_log_id_seq;
CREATE TABLE @extschema@.pfa_event_log (
    event_id bigint PRIMARY KEY DEFAULT pg_catalog.nextval('@extschema@.pfa_event_log_id_seq'),
    logged_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    level text NOT NULL CHECK (level IN ('debug', 'info', 'warning', 'error')),
    component text NOT NULL,
    organization_id text COLLATE "C",
    run_id bigint,
    code text NOT NULL,
    message text NOT NULL,
    context jsonb
);
ALTER SEQUENCE @extschema@.pfa_event_log_id_seq OWNED BY @extschema@.pfa_event_log.event_id;
CREATE INDEX pfa_event_log_logged_at ON @extschema@.pfa_event_log (logged_at);
COMMENT ON TABLE @extschema@.pfa_event_log IS 'what happened: syncs, errors, drift, changes of state';
COMMENT ON SEQUENCE @extschema@.pfa_event_log_id_seq IS 'numbers of events';

-- Where credentials may be sent: the origin that they were given for.
CREATE TABLE @extschema@.pfa_credential_origin (
    server_name name NOT NULL,
    role_name name NOT NULL,
    origin text NOT NULL,
    bound_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    PRIMARY KEY (server_name, role_name)
);
COMMENT ON TABLE @extschema@.pfa_credential_origin IS 'scheme, host and port that a user mapping''s credentials were given for';
