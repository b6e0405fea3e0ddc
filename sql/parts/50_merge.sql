/*
 * 50_merge.sql: users' changes, and the mirror seen through them.
 *
 * pfa_modification has no foreign key to pfa_mirror: a draft outlives its
 * record.  The functions check what their caller may do, and read the tables
 * with their owner's rights.
 */

CREATE TABLE @extschema@.pfa_user_organization (
    user_id text COLLATE "C" NOT NULL CHECK (user_id <> ''),
    organization_id text COLLATE "C" NOT NULL,
    role text NOT NULL CHECK (role IN ('viewer', 'editor', 'admin')),
    created_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    PRIMARY KEY (user_id, organization_id)
);
COMMENT ON TABLE @extschema@.pfa_user_organization IS 'what a user may do in an organization';
COMMENT ON COLUMN @extschema@.pfa_user_organization.user_id IS 'what pfa_vanguard.user_id holds, or a role''s name';
COMMENT ON COLUMN @extschema@.pfa_user_organization.role IS 'viewer reads, editor also drafts and commits, admin also sees the drafts of others';

CREATE FUNCTION @extschema@.pfa_touched_columns(delta jsonb) RETURNS bigint
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'pfa_touched_columns';
COMMENT ON FUNCTION @extschema@.pfa_touched_columns(jsonb) IS 'the columns of pfa_mirror whose merged value can differ by a delta, one bit a column, and in the low 32 bits a digest of the texts it gives them';
REVOKE ALL ON FUNCTION @extschema@.pfa_touched_columns(jsonb) FROM PUBLIC;

CREATE SEQUENCE @extschema@.pfa_modification_id_seq;
CREATE TABLE @extschema@.pfa_modification (
    modification_id bigint PRIMARY KEY DEFAULT pg_catalog.nextval('@extschema@.pfa_modification_id_seq'),
    organization_id text COLLATE "C" NOT NULL,
    pfa_id text COLLATE "C" NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    session_id text COLLATE "C",
    delta jsonb NOT NULL CHECK (pg_catalog.jsonb_typeof(delta) = 'object'),
    base jsonb NOT NULL CHECK (pg_catalog.jsonb_typeof(base) = 'object'),
    base_version bigint NOT NULL,
    version bigint NOT NULL DEFAULT 1,
    sync_state text COLLATE "C" NOT NULL DEFAULT 'modified'
        CHECK (sync_state IN ('modified', 'pending_sync', 'syncing', 'synced', 'conflict', 'error')),
    change_reason text,
    created_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    updated_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    committed_at timestamptz,
    synced_at timestamptz,
    last_error text,
    touched bigint NOT NULL GENERATED ALWAYS AS (@extschema@.pfa_touched_columns(delta)) STORED,
    CHECK (sync_state = 'modified' OR committed_at IS NOT NULL)
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);
ALTER SEQUENCE @extschema@.pfa_modification_id_seq OWNED BY @extschema@.pfa_modification.modification_id;
COMMENT ON TABLE @extschema@.pfa_modification IS 'what users changed: drafts, and changes on their way to PEMS';
COMMENT ON COLUMN @extschema@.pfa_modification.session_id IS 'the client''s name for a group of drafts, or NULL';
COMMENT ON COLUMN @extschema@.pfa_modification.delta IS 'new values under the keys of data';
COMMENT ON COLUMN @extschema@.pfa_modification.base IS 'the values that the user saw when the change of each key was begun';
COMMENT ON COLUMN @extschema@.pfa_modification.base_version IS 'pfa_mirror.version when the draft was begun';
COMMENT ON COLUMN @extschema@.pfa_modification.version IS 'grows by one at each change of the modification';
COMMENT ON COLUMN @extschema@.pfa_modification.sync_state IS 'modified (a draft), pending_sync (committed), syncing, synced, conflict or error';
COMMENT ON COLUMN @extschema@.pfa_modification.committed_at IS 'committed changes of a record follow one another in this order';
COMMENT ON COLUMN @extschema@.pfa_modification.touched IS 'columns of pfa_mirror whose merged value can differ by this change, one bit a column, and in the low 32 bits a digest of the texts it gives them';
COMMENT ON SEQUENCE @extschema@.pfa_modification_id_seq IS 'numbers of modifications';

-- Found by these names from C, see src/catalog/relations.c.
CREATE UNIQUE INDEX pfa_modification_draft
    ON @extschema@.pfa_modification (organization_id, user_id, pfa_id)
    WHERE sync_state = 'modified';
CREATE INDEX pfa_modification_draft_touched
    ON @extschema@.pfa_modification (organization_id, user_id, touched) INCLUDE (pfa_id)
    WHERE sync_state = 'modified';
CREATE INDEX pfa_modification_committed
    ON @extschema@.pfa_modification (organization_id, pfa_id, committed_at, modification_id)
    WHERE sync_state <> 'modified';
CREATE INDEX pfa_modification_committed_touched
    ON @extschema@.pfa_modification (organization_id, touched) INCLUDE (pfa_id)
    WHERE sync_state IN ('pending_sync', 'syncing', 'conflict', 'error');
CREATE INDEX idx_pfa_modification_sync_state
    ON @extschema@.pfa_modification (organization_id, sync_state)
    WHERE sync_state IN ('modified', 'pending_sync');

CREATE SEQUENCE @extschema@.pfa_conflict_id_seq;
CREATE TABLE @extschema@.pfa_conflict (
    conflict_id bigint PRIMARY KEY DEFAULT pg_catalog.nextval('@extschema@.pfa_conflict_id_seq'),
    organization_id text COLLATE "C" NOT NULL,
    pfa_id text COLLATE "C" NOT NULL,
    modification_id bigint NOT NULL,
    fields text[] NOT NULL,
    base jsonb NOT NULL,
    local jsonb NOT NULL,
    pems jsonb,
    status text NOT NULL DEFAULT 'open' CHECK (status IN ('open', 'resolved')),
    resolution text CHECK (resolution IN ('use_local', 'use_pems', 'merge')),
    created_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    resolved_at timestamptz,
    resolved_by text,
    CHECK ((status = 'resolved') = (resolved_at IS NOT NULL))
);
ALTER SEQUENCE @extschema@.pfa_conflict_id_seq OWNED BY @extschema@.pfa_conflict.conflict_id;
CREATE UNIQUE INDEX pfa_conflict_open
    ON @extschema@.pfa_conflict (modification_id) WHERE status = 'open';
CREATE INDEX pfa_conflict_record
    ON @extschema@.pfa_conflict (organization_id, pfa_id);
COMMENT ON TABLE @extschema@.pfa_conflict IS 'committed changes of fields that PEMS has changed to something else';
COMMENT ON COLUMN @extschema@.pfa_conflict.fields IS 'the keys that both sides changed';
COMMENT ON COLUMN @extschema@.pfa_conflict.base IS 'their values when the change was begun';
COMMENT ON COLUMN @extschema@.pfa_conflict.local IS 'what the user made of them';
COMMENT ON COLUMN @extschema@.pfa_conflict.pems IS 'what PEMS made of them; NULL: the record is gone from PEMS';
COMMENT ON SEQUENCE @extschema@.pfa_conflict_id_seq IS 'numbers of conflicts';

-- The order of paging, for the filter that nearly every list has.
CREATE INDEX pfa_mirror_category
    ON @extschema@.pfa_mirror (organization_id, category, pfa_id)
    INCLUDE (is_discontinued);

SELECT pg_catalog.pg_extension_config_dump('@extschema@.pfa_user_organization', '');
SELECT pg_catalog.pg_extension_config_dump('@extschema@.pfa_modification', '');
SELECT pg_catalog.pg_extension_config_dump('@extschema@.pfa_modification_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('@extschema@.pfa_conflict', '');
SELECT pg_catalog.pg_extension_config_dump('@extschema@.pfa_conflict_id_seq', '');

-- Drafts are checked against a copy of the mapping that each backend keeps.
CREATE FUNCTION @extschema@.pfa_field_mapping_forget() RETURNS trigger
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'pfa_field_mapping_forget';
COMMENT ON FUNCTION @extschema@.pfa_field_mapping_forget() IS 'trigger: tells all backends that the field mapping has changed';
REVOKE ALL ON FUNCTION @extschema@.pfa_field_mapping_forget() FROM PUBLIC;
CREATE TRIGGER pfa_field_mapping_forget
    AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON @extschema@.pfa_field_mapping
    FOR EACH STATEMENT EXECUTE FUNCTION @extschema@.pfa_field_mapping_forget();
ALTER TABLE @extschema@.pfa_field_mapping ENABLE ALWAYS TRIGGER pfa_field_mapping_forget;

/* ---- who is calling ---- */

CREATE FUNCTION @extschema@.pfa_current_user_id() RETURNS text
LANGUAGE c STABLE STRICT PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'pfa_current_user_id';
COMMENT ON FUNCTION @extschema@.pfa_current_user_id() IS 'the user that calls: pfa_vanguard.user_id where it is in effect, else the role''s name';

CREATE FUNCTION @extschema@.pfa_my_organizations(role text DEFAULT 'viewer') RETURNS text[]
LANGUAGE c STABLE STRICT PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'pfa_my_organizations';
COMMENT ON FUNCTION @extschema@.pfa_my_organizations(text) IS 'organizations in which the caller has at least this role';

/* ---- calls ---- */

CREATE FUNCTION @extschema@.pfa_get(organization_id text, filters jsonb DEFAULT '{}',
    page_size integer DEFAULT 100, cursor text DEFAULT NULL,
    sort_by text DEFAULT 'pfaId', sort_order text DEFAULT 'asc')
RETURNS jsonb
LANGUAGE c STABLE CALLED ON NULL INPUT PARALLEL RESTRICTED COST 10000
AS 'MODULE_PATHNAME', 'pfa_get';
COMMENT ON FUNCTION @extschema@.pfa_get(text, jsonb, integer, text, text, text) IS 'one page of an organization''s records as the caller sees them, own drafts and committed changes included';
REVOKE ALL ON FUNCTION @extschema@.pfa_get(text, jsonb, integer, text, text, text) FROM PUBLIC;

CREATE FUNCTION @extschema@.pfa_record(organization_id text, pfa_id text) RETURNS jsonb
LANGUAGE c STABLE STRICT PARALLEL RESTRICTED COST 100
AS 'MODULE_PATHNAME', 'pfa_record';
COMMENT ON FUNCTION @extschema@.pfa_record(text, text) IS 'one record as the caller sees it, NULL if there is none';
REVOKE ALL ON FUNCTION @extschema@.pfa_record(text, text) FROM PUBLIC;

CREATE FUNCTION @extschema@.pfa_draft(organization_id text, modifications jsonb,
    session_id text DEFAULT NULL)
RETURNS jsonb
LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'pfa_draft';
COMMENT ON FUNCTION @extschema@.pfa_draft(text, jsonb, text) IS 'saves or extends the caller''s drafts, all of them or none';
REVOKE ALL ON FUNCTION @extschema@.pfa_draft(text, jsonb, text) FROM PUBLIC;

CREATE FUNCTION @extschema@.pfa_commit(organization_id text, session_id text DEFAULT NULL)
RETURNS jsonb
LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'pfa_commit';
COMMENT ON FUNCTION @extschema@.pfa_commit(text, text) IS 'releases the caller''s drafts, or those of one session, to be written to PEMS';
REVOKE ALL ON FUNCTION @extschema@.pfa_commit(text, text) FROM PUBLIC;

CREATE FUNCTION @extschema@.pfa_discard(organization_id text, session_id text DEFAULT NULL,
    pfa_ids text[] DEFAULT NULL, discard_all boolean DEFAULT false)
RETURNS jsonb
LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'pfa_discard';
COMMENT ON FUNCTION @extschema@.pfa_discard(text, text, text[], boolean) IS 'drops the caller''s drafts: of a session, of some records, or all';
REVOKE ALL ON FUNCTION @extschema@.pfa_discard(text, text, text[], boolean) FROM PUBLIC;
