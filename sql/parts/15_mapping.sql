/*
 * 15_mapping.sql: the default mapping of the grid CUPFAG, and what pg_dump
 * carries.
 *
 * Shipped rows come with the extension, so a dump leaves them out.  A shipped
 * row that an administrator changes is his from then on and is dumped; when it
 * is loaded again it takes the place of the shipped row of its key.  That a
 * shipped row was deleted cannot be dumped: it comes back with a restore.
 *
 * An update of the extension that changes shipped rows deletes them, where
 * they are still marked, and inserts them anew.
 */

INSERT INTO @extschema@.pfa_field_mapping
    (pems_alias, key, kind, default_value, write_name, shipped)
VALUES
    ('pfs_id', 'pfaId', 'text', NULL, NULL, true),
    ('pfs_a_org', 'organization', 'text', NULL, NULL, true),
    ('description', 'description', 'text', NULL, NULL, true),
    ('pfs_f_area', 'areaSilo', 'text', NULL, NULL, true),
    ('pfs_f_category', 'category', 'text', NULL, 'PFS_F_CATEGORY', true),
    ('pfs_f_catdesc', 'forecastCategory', 'text', NULL, NULL, true),
    ('pfs_f_class', 'class', 'text', NULL, 'PFS_F_CLASS', true),
    ('pfs_f_source', 'source', 'text', 'Rental', 'PFS_F_SOURCE', true),
    ('pfs_f_dor', 'dor', 'text', 'PROJECT', 'PFS_F_DOR', true),
    ('pfs_f_manufacturer', 'manufacturer', 'text', NULL, 'PFS_F_MANUFACT', true),
    ('pfs_f_model', 'model', 'text', NULL, 'PFS_F_MODEL', true),
    ('pfs_f_rental', 'monthlyRate', 'number', NULL, 'PFS_F_RATE', true),
    ('pfs_f_purchase', 'purchasePrice', 'number', NULL, 'PFS_F_PRICE', true),
    ('pfs_p_startdate', 'originalStart', 'date', NULL, NULL, true),
    ('pfs_p_enddate', 'originalEnd', 'date', NULL, NULL, true),
    ('pfs_f_startdate', 'forecastStart', 'date', NULL, 'PFS_F_STARTDATE', true),
    ('pfs_f_enddate', 'forecastEnd', 'date', NULL, 'PFS_F_ENDDATE', true),
    ('pfs_a_startdate', 'actualStart', 'date', NULL, NULL, true),
    ('pfs_a_enddate', 'actualEnd', 'date', NULL, NULL, true),
    ('pfs_f_actualized', 'isActualized', 'boolean', 'N', NULL, true),
    ('pfs_f_discontinued', 'isDiscontinued', 'boolean', 'N', 'PFA_DIS', true),
    ('pfs_f_fundstrans', 'isFundsTransferable', 'boolean', 'N', 'PFS_FT', true),
    ('pfs_p_projcode', 'contract', 'text', NULL, NULL, true),
    ('pfs_equipment_tag', 'equipment', 'text', NULL, NULL, true),
    ('pfs_lastmodified', 'pemsVersion', 'text', NULL, NULL, true);

-- A changed row is no longer the shipped one.
CREATE FUNCTION @extschema@.pfa_field_mapping_changed() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    NEW.shipped := false;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION @extschema@.pfa_field_mapping_changed() IS 'trigger: a shipped row that is changed belongs to whoever changed it';

-- A dumped row, or one that is added by hand, takes the shipped one's place.
CREATE FUNCTION @extschema@.pfa_field_mapping_added() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    DELETE FROM @extschema@.pfa_field_mapping AS m
        WHERE m.organization_id IS NULL AND m.key = NEW.key AND m.shipped;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION @extschema@.pfa_field_mapping_added() IS 'trigger: a default row of one''s own replaces the shipped row of its key';

REVOKE ALL ON FUNCTION @extschema@.pfa_field_mapping_changed() FROM PUBLIC;
REVOKE ALL ON FUNCTION @extschema@.pfa_field_mapping_added() FROM PUBLIC;

CREATE TRIGGER pfa_field_mapping_changed
    BEFORE UPDATE ON @extschema@.pfa_field_mapping
    FOR EACH ROW WHEN (OLD.shipped AND OLD IS DISTINCT FROM NEW)
    EXECUTE FUNCTION @extschema@.pfa_field_mapping_changed();

CREATE TRIGGER pfa_field_mapping_added
    BEFORE INSERT ON @extschema@.pfa_field_mapping
    FOR EACH ROW WHEN (NEW.organization_id IS NULL AND NOT NEW.shipped)
    EXECUTE FUNCTION @extschema@.pfa_field_mapping_added();

-- Run ids stay unique across a restore, for whoever noted one elsewhere.
SELECT pg_catalog.pg_extension_config_dump('@extschema@.pfa_organization', '');
SELECT pg_catalog.pg_extension_config_dump('@extschema@.pfa_field_mapping', 'WHERE NOT shipped');
SELECT pg_catalog.pg_extension_config_dump('@extschema@.pfa_mirror', '');
SELECT pg_catalog.pg_extension_config_dump('@extschema@.pfa_credential_origin', '');
SELECT pg_catalog.pg_extension_config_dump('@extschema@.pfa_sync_run_id_seq', '');
